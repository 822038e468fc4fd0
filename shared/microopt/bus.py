"""One process's connection to NATS: publishing under deterministic ids, requests, KV and dead letters."""

import asyncio
import re
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import (
    NoStreamResponseError,
    ServerError,
    ServiceUnavailableError,
)

from microopt import codec, subjects
from microopt.errors import ConfigError, InvalidMessageError, TemporaryError
from microopt.messages import Actuation, Allocation, Answer, Asked, Assurance, Event, Forecast, Telemetry
from microopt.metrics import AgentMetrics
from microopt.settings import NatsSettings
from microopt.together import Part, Stored, Together

T = TypeVar("T")
Published = Telemetry | Forecast | Answer | Allocation | Actuation | Asked | Assurance | Event
P = TypeVar("P", Telemetry, Forecast, Answer, Allocation, Actuation, Asked, Assurance, Event)

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
MSG_ID: Final = "Nats-Msg-Id"  # ADR-4: header names are case-sensitive
ACK_TIMEOUT_S: Final = 2.0
RETRY_FOR_S: Final = 60.0
RETRY_WAITS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
DRAIN_TIMEOUT_S: Final = 5
TOGETHER: Final = 1000
"""Messages in one `publish_together`: less than the client buffers."""
MAX_DEAD_BYTES: Final = 512 * 1024
MAX_HEADER_CHARS: Final = 1_000

_REFUSED: Final = "authorization violation"
_USER_INFO: Final = re.compile(r"(?<=//)[^,]*@|(?:(?<=,)|^)\s*[^/,@]+@")
_RETRYABLE = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.OutboundBufferLimitError,
    NoStreamResponseError,
    ServerError,
    ServiceUnavailableError,
)


class Bus:
    """A connection that reconnects for ever, with the project's rules for publishing."""

    def __init__(self, agent: str, metrics: AgentMetrics) -> None:
        self.agent = agent
        self.metrics = metrics
        self.nc: Client = Client()
        self.js: JetStreamContext = self.nc.jetstream()
        self._together = Together(self.nc)
        self._closing = False
        self._refused: asyncio.Future[None] | None = None
        self._log = structlog.get_logger("microopt.bus")

    @classmethod
    async def connect(
        cls,
        settings: NatsSettings,
        agent: str,
        metrics: AgentMetrics | None = None,
        *,
        within_s: float | None = None,
    ) -> "Bus":
        """Connect; without `within_s`, keep trying until there is a server.

        Raises:
            ConfigError: nothing answers `within_s`, or the server refuses the credentials.
        """
        bus = cls(agent, metrics or AgentMetrics())
        url = without_secrets(settings.url)
        try:
            await asyncio.wait_for(bus._connect_unless_refused(settings), within_s)
        except TimeoutError as error:
            raise ConfigError(
                f"no NATS server answers at {url}; start one with `microopt up`, or set NATS_URL"
            ) from error
        except (nats.errors.Error, OSError, ValueError) as error:
            remedy = "; check [nats] user, password, token and credentials" if _is_refusal(error) else ""
            raise ConfigError(f"cannot connect to NATS at {url}: {error}{remedy}") from error
        return bus

    async def _connect_unless_refused(self, settings: NatsSettings) -> None:
        """Connect; the client would try credentials that are refused for ever."""
        self._refused = asyncio.get_running_loop().create_future()
        connecting = asyncio.ensure_future(self._connect(settings))
        try:
            await asyncio.wait({connecting, self._refused}, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done():
                self._refused.result()
            await connecting
        finally:
            connecting.cancel()
            self._refused.cancel()
            self._refused = None
            await asyncio.gather(connecting, return_exceptions=True)

    async def _connect(self, settings: NatsSettings) -> None:
        await self.nc.connect(
            servers=[url.strip() for url in settings.url.split(",")],
            name=f"microopt-{self.agent}",
            user=settings.user,
            password=settings.password,
            token=settings.token,
            user_credentials=settings.credentials,
            tls=_tls(settings),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=10,
            drain_timeout=DRAIN_TIMEOUT_S,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
        )
        self.metrics.connected.set(1)

    async def __aenter__(self) -> "Bus":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is buffered and close; bounded in time, also when the server is gone."""
        self._closing = True
        try:
            if self.nc.is_connected:
                await asyncio.wait_for(self.nc.drain(), DRAIN_TIMEOUT_S + 1)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self._log.warning("drain_failed", error=repr(error))
        finally:
            if not self.nc.is_closed:
                await self._close_without_server()

    async def _close_without_server(self) -> None:
        try:
            await self.nc.close()
        except OSError as error:  # what is buffered cannot be sent any more
            self._log.warning("close_failed", error=repr(error))

    async def publish(self, message: Published) -> bool:
        """Store `message` on its subject; return False when the same fact was stored before.

        Raises:
            InvalidMessageError: the message is not what its type allows.
            TemporaryError: JetStream did not take it within `RETRY_FOR_S`.
        """
        subject, data = subjects.of(message), codec.encode(message)
        kind = type(message).__name__
        ack = await self._retried(
            lambda: self.js.publish(subject, data, timeout=ACK_TIMEOUT_S, headers={MSG_ID: message.message_id}),
            f"{kind} on {subject}",
        )
        duplicate = bool(ack.duplicate)
        self.metrics.published.labels(kind, "duplicate" if duplicate else "new").inc()
        return not duplicate

    async def publish_together(self, messages: Sequence[P]) -> list[P]:
        """Send `messages` one after another and wait for all acknowledgements; return what was not stored in time.

        It costs a sixth of as many `publish`. What is returned may have been stored all the same: it is to be sent
        again, and has an id. At most `TOGETHER` messages, of one type.

        Raises:
            InvalidMessageError: a message is not what its type allows; none was sent.
        """
        parts = [(subjects.of(m), codec.encode(m), {MSG_ID: m.message_id}) for m in messages]
        stored = await self._store(parts, messages)
        return [m for m, one in zip(messages, stored, strict=True) if one.fate not in ("new", "duplicate")]

    async def publish_next(self, messages: Sequence[P], last: Mapping[str, int]) -> list[Stored]:
        """Send `messages`, each only if its subject's last message has the sequence that `last` says, 0 for none.

        It keeps out what another has overtaken, even if this process slept since it looked. Otherwise it is as
        `publish_together`, and returns what became of each.

        Raises:
            InvalidMessageError: a message is not what its type allows; none was sent.
        """
        parts = []
        for message in messages:
            subject = subjects.of(message)
            headers = {MSG_ID: message.message_id, EXPECTED: str(last.get(subject, 0))}
            parts.append((subject, codec.encode(message), headers))
        return await self._store(parts, messages)

    async def _store(self, parts: Sequence[Part], messages: Sequence[P]) -> list[Stored]:
        if not (parts and self.nc.is_connected):
            return [Stored("unanswered")] * len(parts)
        try:
            stored = await self._together.store(parts, ACK_TIMEOUT_S)
        except nats.errors.Error as error:  # as when more is buffered than the client takes
            self._log.warning("publishing_stopped", error=repr(error))
            return [Stored("unanswered")] * len(parts)
        kind = type(messages[0]).__name__
        for fate, count in Counter(one.fate for one in stored).items():
            if fate in ("new", "duplicate"):
                self.metrics.published.labels(kind, fate).inc(count)
            else:
                self.metrics.publish_retries.inc(count)
        return stored

    async def request(self, subject: str, message: Any, reply: type[T], *, timeout_s: float) -> T:
        """Return the decoded answer of whoever serves `subject`; `message` may be bytes that are encoded already.

        Raises:
            TemporaryError: nobody serves it, or nobody answered in time, or the service reported an error.
            InvalidMessageError: the answer is not a `reply`.
        """
        data = message if isinstance(message, bytes) else codec.encode(message)
        try:
            answer = await self.nc.request(subject, data, timeout=timeout_s)
        except nats.errors.NoRespondersError as error:
            raise TemporaryError(f"nobody serves {subject}") from error
        except nats.errors.TimeoutError as error:
            raise TemporaryError(f"{subject}: no answer within {timeout_s:g} s") from error
        except nats.errors.Error as error:
            raise TemporaryError(f"{subject}: {error!r}") from error
        headers = answer.headers or {}
        if trouble := headers.get("Nats-Service-Error"):  # ADR-32
            raise TemporaryError(f"{subject}: {headers.get('Nats-Service-Error-Code', '')} {trouble}".strip())
        return codec.decode(answer.data, reply, origin=f"answer on {subject}")

    async def request_all(
        self, subject: str, message: Any, reply: type[T], *, within_s: float, quiet_s: float
    ) -> list[T]:
        """Return the answers of everybody who serves `subject` for himself.

        Nobody can tell how many those are: it ends `within_s`, or when after an answer none came for `quiet_s`, or
        at once where nobody serves it. What is no `reply` is logged and left out.
        """
        answers: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.nc.new_inbox()
        subscription = await self.nc.subscribe(inbox, cb=answers.put)
        found: list[T] = []
        give_up = time.monotonic() + within_s
        try:
            await self.nc.publish(subject, codec.encode(message), reply=inbox)
            wait_s = within_s
            while wait_s > 0.0:
                answer = await asyncio.wait_for(answers.get(), wait_s)
                if (answer.headers or {}).get("Status") == "503":
                    break
                wait_s = min(quiet_s, give_up - time.monotonic())
                try:
                    found.append(codec.decode(answer.data, reply, origin=f"answer on {subject}"))
                except InvalidMessageError as error:
                    self._log.error("answer_not_usable", subject=subject, error=str(error))
        except TimeoutError:
            pass  # that is how it ends
        finally:
            await subscription.unsubscribe()
        return found

    async def dead_letter(
        self,
        data: bytes,
        *,
        subject: str,
        error: BaseException,
        kind: str,
        stream_sequence: int | None = None,
    ) -> None:
        """Keep `data` on this agent's dead-letter subject, with where it came from and why it was useless."""
        self.metrics.dead.labels(kind).inc()
        self._log.error("dead_letter", subject=subject, kind=kind, error=str(error))
        headers = {
            "Microopt-Agent": self.agent,
            "Microopt-Subject": subject,
            "Microopt-Error": header_text(f"{type(error).__name__}: {error}"),
        }
        if stream_sequence is not None:
            headers["Microopt-Sequence"] = str(stream_sequence)
            headers[MSG_ID] = f"dead:{self.agent}:{subject}:{stream_sequence}"
        if len(data) > MAX_DEAD_BYTES:
            headers["Microopt-Truncated-From"] = str(len(data))
        body = data[:MAX_DEAD_BYTES]
        await self._retried(
            lambda: self.js.publish(subjects.dead(self.agent), body, timeout=ACK_TIMEOUT_S, headers=dict(headers)),
            f"dead letter from {subject}",
        )

    async def put_spec(self, bucket: str, key: str, spec: Any) -> int:
        """Write desired state and return its revision."""
        kv = await self.js.key_value(bucket)
        return await kv.put(key, codec.encode(spec))

    async def _retried(self, attempt: Callable[[], Awaitable[T]], what: str) -> T:
        """Repeat an idempotent `attempt` until it succeeds; never while disconnected (it would be buffered)."""
        give_up = time.monotonic() + RETRY_FOR_S
        tries = 0
        while True:
            try:
                if not self.nc.is_connected:
                    raise nats.errors.TimeoutError
                return await attempt()
            except _RETRYABLE as error:
                if time.monotonic() > give_up:
                    raise TemporaryError(f"{what}: not stored within {RETRY_FOR_S:g} s: {error!r}") from error
                self.metrics.publish_retries.inc()
            await asyncio.sleep(RETRY_WAITS_S[min(tries, len(RETRY_WAITS_S) - 1)])
            tries += 1

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.metrics.slow_consumer_drops.inc()
            return
        if self._refused and not self._refused.done() and _is_refusal(error):
            self._refused.set_exception(error)
            return
        self._log.warning("bus_error", error=repr(error))

    async def _on_disconnected(self) -> None:
        self.metrics.connected.set(0)
        if not self._closing:
            self._log.warning("bus_disconnected")

    async def _on_reconnected(self) -> None:
        self.metrics.connected.set(1)
        self.metrics.reconnects.inc()
        self._log.info("bus_reconnected")


def _is_refusal(error: Exception) -> bool:
    return _REFUSED in str(error).lower()


def without_secrets(url: str) -> str:
    """Return `url`, one or several separated by commas, without the user and password or token in it."""
    return _USER_INFO.sub("", url)


def header_text(text: str) -> str:
    """Return `text` fit for a NATS header: one line, bounded, ASCII."""
    line = " ".join(text.split())[:MAX_HEADER_CHARS]
    return line.encode("ascii", "backslashreplace").decode()


def _tls(settings: NatsSettings) -> ssl.SSLContext | None:
    if not settings.tls_ca:
        return None
    if not Path(settings.tls_ca).is_file():
        raise ConfigError(f"[nats] tls_ca: no such file {settings.tls_ca!r}")
    return ssl.create_default_context(cafile=settings.tls_ca)
