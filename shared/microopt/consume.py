"""Delivering a stream's messages to a handler, at least once, in order, across restarts of anything."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from microopt import codec, subjects
from microopt.bus import Bus
from microopt.errors import PermanentError, TemporaryError
from microopt.streams import STREAM_OF

Start = Literal["last", "all", "new"]
Handler = Callable[[Any], Awaitable[None]]

FETCH_S: Final = 1.0
HEARTBEAT_S: Final = 0.25  # the server refuses more than half of the fetch
BATCH: Final = 64
ACK_WAIT_S: Final = 30.0
INACTIVE_S: Final = 60.0
REOPEN_WAIT_S: Final = 0.5
UNEXPECTED_DELAY_S: Final = 1.0

_POLICY = {"last": DeliverPolicy.LAST_PER_SUBJECT, "all": DeliverPolicy.ALL, "new": DeliverPolicy.NEW}
_LOST = (nats.errors.Error, APIError)


@dataclass(frozen=True)
class Subscription:
    """What to consume, and how.

    With `durable`, all who use the same name share the messages, each is handled once, and the server remembers
    what was acknowledged. Without, everyone sees all: from the last message of each subject, from the oldest
    kept, or only new ones.
    """

    kind: type[Any]
    handler: Handler
    durable: str | None = None
    start: Start = "last"
    max_deliver: int = 5

    @property
    def name(self) -> str:
        """Return a name for tasks and logs."""
        return f"{self.durable or 'follow'}:{self.kind.__name__}"


class Consumer:
    """Pulls one subscription's messages; made anew when the server lost it, from where it was."""

    def __init__(self, bus: Bus, subscription: Subscription, stop: asyncio.Event) -> None:
        self._bus = bus
        self._sub = subscription
        self._stop = stop
        self._last_sequence = 0
        self._postponed: set[int] = set()
        self._log = structlog.get_logger("microopt.consume").bind(subscription=subscription.name)
        self.caught_up = asyncio.Event()
        """Set once everything that was stored when the consumer began has been handled."""

    @property
    def name(self) -> str:
        """Return the subscription's name."""
        return self._sub.name

    async def run(self) -> None:
        """Deliver until told to stop."""
        while not self._stop.is_set():
            try:
                pull = await self._open()
            except _LOST as error:
                self._log.warning("consumer_not_opened", error=str(error) or repr(error))
                await asyncio.sleep(REOPEN_WAIT_S)
                continue
            try:
                await self._pump(pull)
            finally:
                await self._close(pull)

    async def _open(self) -> JetStreamContext.PullSubscription:
        stream, subject = STREAM_OF[self._sub.kind], subjects.ALL[self._sub.kind]
        config = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,  # counted here, so that the last failure can be dead-lettered with its reason
            deliver_policy=_POLICY[self._sub.start],
            inactive_threshold=None if self._sub.durable else INACTIVE_S,
        )
        state = (await self._bus.js.stream_info(stream)).state
        if not self._sub.durable and 0 < self._last_sequence <= state.last_seq:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = min(self._postponed, default=self._last_sequence + 1)
        pull = await self._bus.js.pull_subscribe(subject, durable=self._sub.durable, stream=stream, config=config)
        if (await pull.consumer_info()).num_pending == 0:
            self.caught_up.set()
        return pull

    async def _pump(self, pull: JetStreamContext.PullSubscription) -> None:
        waiting = 0
        while not self._stop.is_set():
            try:
                messages = await self._fetch(pull, batch=max(1, min(waiting, BATCH)))
            except nats.errors.TimeoutError:  # also FetchTimeoutError: heartbeats came, messages did not
                waiting = 0
                if await self._is_gone(pull):
                    return
                continue
            except _LOST as error:
                self._log.warning("consumer_lost", error=str(error) or repr(error))
                await asyncio.sleep(REOPEN_WAIT_S)
                return
            for message in messages:
                if self._stop.is_set():
                    await self._settle(message, message.nak)  # at once for the next of this name
                    continue
                await self._deliver(message)
                waiting = message.metadata.num_pending
            if messages and waiting == 0:
                self.caught_up.set()

    async def _fetch(self, pull: JetStreamContext.PullSubscription, batch: int) -> list[Msg]:
        if self._sub.durable:  # not cut off by a stop: what the server has sent would wait for ACK_WAIT_S
            return await pull.fetch(batch, timeout=FETCH_S, heartbeat=HEARTBEAT_S)
        fetch = asyncio.ensure_future(pull.fetch(batch, timeout=FETCH_S, heartbeat=HEARTBEAT_S))
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({fetch, stop}, return_when=asyncio.FIRST_COMPLETED)
            return await fetch if fetch.done() else []
        finally:
            fetch.cancel()
            stop.cancel()

    async def _is_gone(self, pull: JetStreamContext.PullSubscription) -> bool:
        try:
            await pull.consumer_info()
        except NotFoundError:
            self._log.warning("consumer_gone", resume_after=self._last_sequence)
            return True
        except _LOST:
            return False  # no connection now: ask again after the next fetch
        return False

    async def _close(self, pull: JetStreamContext.PullSubscription) -> None:
        try:
            await pull.unsubscribe()
        except nats.errors.Error as error:
            self._log.debug("unsubscribe_failed", error=str(error) or repr(error))

    async def _deliver(self, message: Msg) -> None:
        kind = self._sub.kind.__name__
        metrics = self._bus.metrics
        try:
            with metrics.handle_s.labels(kind).time():
                await self._sub.handler(codec.decode(message.data, self._sub.kind, origin=message.subject))
        except PermanentError as error:
            await self._bury(message, error)
        except TemporaryError as error:
            self._log.warning("handler_postponed", subject=message.subject, error=str(error))
            await self._postpone(message, error, error.delay_s)
        except Exception as error:
            self._log.exception("handler_failed", subject=message.subject)
            await self._postpone(message, error, UNEXPECTED_DELAY_S)
        else:
            metrics.messages.labels(kind, "ok").inc()
            await self._settle(message, message.ack)
        self._last_sequence = max(self._last_sequence, message.metadata.sequence.stream)

    async def _postpone(self, message: Msg, error: Exception, delay_s: float) -> None:
        if message.metadata.num_delivered >= self._sub.max_deliver:
            await self._bury(message, error)
            return
        self._bus.metrics.messages.labels(self._sub.kind.__name__, "retried").inc()
        await self._settle(message, lambda: message.nak(delay=delay_s))
        self._postponed.add(message.metadata.sequence.stream)

    async def _bury(self, message: Msg, error: Exception) -> None:
        kind = self._sub.kind.__name__
        try:
            await self._bus.dead_letter(
                message.data,
                subject=message.subject,
                error=error,
                kind=kind,
                stream_sequence=message.metadata.sequence.stream,
            )
        except TemporaryError:
            self._log.exception("dead_letter_not_stored", subject=message.subject)
            return  # not settled: the message itself comes again
        self._bus.metrics.messages.labels(kind, "dead").inc()
        await self._settle(message, message.term)

    async def _settle(self, message: Msg, settle: Callable[[], Awaitable[None]]) -> None:
        self._postponed.discard(message.metadata.sequence.stream)
        try:
            await settle()
        except nats.errors.Error as error:  # it will be delivered again, and handlers are idempotent
            self._log.warning("acknowledgement_failed", error=str(error) or repr(error))
