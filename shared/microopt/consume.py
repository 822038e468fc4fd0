"""Delivering a stream's messages to a handler, at least once, in order; what cannot be used is kept aside."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.msg import Msg

from microopt import codec, subjects
from microopt.bus import Bus
from microopt.errors import ConfigError, InvalidMessageError, PermanentError, TemporaryError
from microopt.pull import Origin, Puller, Start
from microopt.streams import STREAM_OF

Handler = Callable[[Any, int], Awaitable[None]]
"""Takes a message and its sequence in the stream."""

UNEXPECTED_DELAY_S: Final = 1.0


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
    """Handles one subscription's messages."""

    def __init__(self, bus: Bus, subscription: Subscription, stop: asyncio.Event) -> None:
        self._bus = bus
        self._sub = subscription
        kind = subscription.kind
        origin = Origin(STREAM_OF[kind], subjects.ALL[kind], subscription.start, subscription.durable)
        self._puller = Puller(bus, origin, self._deliver, stop)
        self._log = structlog.get_logger("microopt.consume").bind(subscription=subscription.name)

    @property
    def name(self) -> str:
        """Return the subscription's name."""
        return self._sub.name

    @property
    def caught_up(self) -> asyncio.Event:
        """Return what is set once everything that was stored at the start has been handled."""
        return self._puller.caught_up

    @property
    def opened(self) -> asyncio.Event:
        """Return what is set once everything that is stored from now on will be handled."""
        return self._puller.opened

    async def run(self) -> None:
        """Deliver until told to stop."""
        await self._puller.run()

    async def _deliver(self, message: Msg) -> None:
        kind = self._sub.kind.__name__
        metrics = self._bus.metrics
        try:
            with metrics.handle_s.labels(kind).time():
                await self._sub.handler(_read(message, self._sub.kind), message.metadata.sequence.stream)
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

    async def _postpone(self, message: Msg, error: Exception, delay_s: float) -> None:
        if message.metadata.num_delivered >= self._sub.max_deliver:
            await self._bury(message, error)
            return
        self._bus.metrics.messages.labels(self._sub.kind.__name__, "retried").inc()
        await self._settle(message, lambda: message.nak(delay=delay_s))
        self._puller.postponed.add(message.metadata.sequence.stream)

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
        self._puller.postponed.discard(message.metadata.sequence.stream)
        try:
            await settle()
        except nats.errors.Error as error:  # it will be delivered again, and handlers are idempotent
            self._log.warning("acknowledgement_failed", error=str(error) or repr(error))


def _read(message: Msg, kind: type[Any]) -> Any:
    """Return the `kind` in `message`.

    Raises:
        InvalidMessageError: it holds none, or one of another subject: who may write to one could speak for all.
    """
    value = codec.decode(message.data, kind, origin=message.subject)
    try:
        own = subjects.of(value)
    except ConfigError as error:
        raise InvalidMessageError(f"{message.subject}: {error}") from error
    if own != message.subject:
        raise InvalidMessageError(f"{message.subject}: holds a {kind.__name__} that belongs on {own}")
    return value
