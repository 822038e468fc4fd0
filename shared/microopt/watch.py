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
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from microopt.bus import Bus
from microopt.desired import value_of
from microopt.errors import MicrooptError
from microopt.pull import REOPEN_WAIT_S, Origin, Puller

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
        self._stop = stop
        self._seen: set[str] = set()
        self._prefix = f"$KV.{watch.bucket}."
        self._stream = f"KV_{watch.bucket}"
        origin = Origin(stream=self._stream, subject=f"{self._prefix}>", start="last")
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
            await self._take(key, self._value(key, message))
        except MicrooptError as error:
            await self._bus.dead_letter(
                message.data,
                subject=f"{self._watch.bucket}/{key}",
                error=error,
                kind=self._watch.kind.__name__,
                stream_sequence=message.metadata.sequence.stream,
            )
            if key not in self._seen:
                await self._recall(key, before=message.metadata.sequence.stream)
        try:
            await message.ack()
        except nats.errors.Error as error:  # it will be delivered again, and handlers are idempotent
            self._log.warning("acknowledgement_failed", error=str(error) or repr(error))

    async def _take(self, key: str, value: Any) -> None:
        await self._watch.handler(key, value)
        self._seen.add(key)

    async def _recall(self, key: str, *, before: int) -> None:
        """Take the newest value before a spoilt one: what was in force before a restart still is."""
        while not self._stop.is_set():
            try:
                kept = await self._history(key, before)
                break
            except nats.errors.Error as error:
                self._log.warning("history_not_read", key=key, error=str(error) or repr(error))
                await asyncio.sleep(REOPEN_WAIT_S)
        else:
            return
        for former in reversed(kept):
            try:
                await self._take(key, self._value(key, former))
            except MicrooptError:
                continue
            self._log.warning("former_value_in_force", key=key, revision=former.seq)
            return

    async def _history(self, key: str, before: int) -> list[RawStreamMsg]:
        kept: list[RawStreamMsg] = []
        sequence = 0
        while True:
            try:
                message = await self._bus.js.get_msg(self._stream, sequence + 1, f"{self._prefix}{key}", next=True)
            except NotFoundError:
                return kept
            sequence = message.seq or before
            if sequence >= before:
                return kept
            kept.append(message)

    def _value(self, key: str, message: Msg | RawStreamMsg) -> Any:
        headers = message.headers or {}
        if OPERATION in headers or MARKER in headers:
            return None
        return value_of(message.data or b"", self._watch.kind, self._watch.bucket, key)
