"""Following a KV bucket for ever, deletions included.

A bucket is a stream (ADR-8), and is pulled like one. nats.py's own watcher dies with the server, and says that it
has shown all values while they are still on their way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.msg import Msg

from microopt import codec
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, MicrooptError
from microopt.pull import Origin, Puller
from microopt.specs import key_of

WatchHandler = Callable[[str, Any], Awaitable[None]]
"""Called with the key and its value, or None when it was deleted; the same value may come again."""

OPERATION: Final = "KV-Operation"  # ADR-8: DEL or PURGE
MARKER: Final = "Nats-Marker-Reason"  # ADR-48: the server removed a value


@dataclass(frozen=True)
class Watch:
    """Which bucket to follow, and what its values are."""

    bucket: str
    kind: type[Any]
    handler: WatchHandler


class Watcher:
    """Follows one bucket; what cannot be used is kept aside, and what stood before stays in force."""

    def __init__(self, bus: Bus, watch: Watch, stop: asyncio.Event) -> None:
        self._bus = bus
        self._watch = watch
        self._prefix = f"$KV.{watch.bucket}."
        origin = Origin(stream=f"KV_{watch.bucket}", subject=f"{self._prefix}>", start="last")
        self._puller = Puller(bus, origin, self._deliver, stop)
        self._log = structlog.get_logger("microopt.watch").bind(bucket=watch.bucket)

    @property
    def name(self) -> str:
        """Return the bucket's name."""
        return self._watch.bucket

    @property
    def synced(self) -> asyncio.Event:
        """Return what is set once the values that stood at the start have been handled."""
        return self._puller.caught_up

    async def run(self) -> None:
        """Deliver changes until told to stop."""
        await self._puller.run()

    async def _deliver(self, message: Msg) -> None:
        key = message.subject.removeprefix(self._prefix)
        try:
            await self._watch.handler(key, self._value(key, message))
        except MicrooptError as error:
            await self._bus.dead_letter(
                message.data,
                subject=f"{self._watch.bucket}/{key}",
                error=error,
                kind=self._watch.kind.__name__,
                stream_sequence=message.metadata.sequence.stream,
            )
        try:
            await message.ack()
        except nats.errors.Error as error:  # it will be delivered again, and handlers are idempotent
            self._log.warning("acknowledgement_failed", error=str(error) or repr(error))

    def _value(self, key: str, message: Msg) -> Any:
        headers = message.headers or {}
        if OPERATION in headers or MARKER in headers:
            return None
        origin = f"{self._watch.bucket}/{key}"
        value = codec.decode(message.data, self._watch.kind, origin=origin)
        if key_of(value) not in (None, key):
            raise InvalidMessageError(f"{origin}: is of {key_of(value)!r}, but stands under {key!r}")
        return value
