"""Following a KV bucket for ever; made anew after each reconnection, since a watcher dies with the server."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
import structlog
from nats.js.errors import APIError
from nats.js.kv import KeyValue

from microopt import codec
from microopt.bus import Bus
from microopt.errors import MicrooptError

WatchHandler = Callable[[str, Any], Awaitable[None]]
"""Called with the key and its value, or None when it was deleted; the same value may come again."""

POLL_S: Final = 0.1
REOPEN_WAIT_S: Final = 0.5

_LOST = (nats.errors.Error, APIError)


@dataclass(frozen=True)
class Watch:
    """Which bucket to follow, and what its values are."""

    bucket: str
    kind: type[Any]
    handler: WatchHandler


class Watcher:
    """Follows one bucket; `synced` is set once the values that stood at the start have been handled."""

    def __init__(self, bus: Bus, watch: Watch, stop: asyncio.Event) -> None:
        self._bus = bus
        self._watch = watch
        self._stop = stop
        self._known: set[str] = set()
        self._buried: set[tuple[str, int]] = set()
        self._log = structlog.get_logger("microopt.watch").bind(bucket=watch.bucket)
        self.synced = asyncio.Event()

    @property
    def name(self) -> str:
        """Return the bucket's name."""
        return self._watch.bucket

    async def run(self) -> None:
        """Deliver changes until told to stop."""
        while not self._stop.is_set():
            generation = self._bus.generation
            try:
                kv = await self._bus.js.key_value(self._watch.bucket)
                watcher = await kv.watchall()
            except _LOST as error:
                self._log.warning("watch_not_opened", error=str(error) or repr(error))
                await asyncio.sleep(REOPEN_WAIT_S)
                continue
            try:
                await self._pump(watcher, generation)
            except _LOST as error:
                self._log.warning("watch_lost", error=str(error) or repr(error))
            finally:
                await self._close(watcher)

    async def _pump(self, watcher: KeyValue.KeyWatcher, generation: int) -> None:
        seen: set[str] | None = set()
        while not self._stop.is_set() and self._bus.generation == generation:
            try:
                entry = await watcher.updates(timeout=POLL_S)  # type: ignore[no-untyped-call]
            except nats.errors.TimeoutError:
                continue
            if entry is not None:
                if seen is not None:
                    seen.add(entry.key)
                await self._deliver(entry)
            elif seen is not None:  # the end of the values that stood at the start
                for key in self._known - seen:  # deleted, and forgotten, while nobody watched
                    await self._handle(key, None)
                seen = None
                self.synced.set()

    async def _deliver(self, entry: KeyValue.Entry) -> None:
        if entry.operation is not None or entry.value is None:
            await self._handle(entry.key, None)
            return
        origin = f"{self._watch.bucket}/{entry.key}"
        try:
            await self._handle(entry.key, codec.decode(entry.value, self._watch.kind, origin=origin))
        except MicrooptError as error:
            await self._bury(entry, origin, error)

    async def _handle(self, key: str, value: Any) -> None:
        await self._watch.handler(key, value)
        (self._known.discard if value is None else self._known.add)(key)

    async def _bury(self, entry: KeyValue.Entry, origin: str, error: MicrooptError) -> None:
        """Keep a value that cannot be used, once per revision; what stood before stays in force."""
        revision = entry.revision or 0
        if (entry.key, revision) in self._buried:
            return
        self._buried.add((entry.key, revision))
        await self._bus.dead_letter(
            entry.value or b"",
            subject=origin,
            error=error,
            kind=self._watch.kind.__name__,
            stream_sequence=revision,
        )

    async def _close(self, watcher: KeyValue.KeyWatcher) -> None:
        try:
            await watcher.stop()  # type: ignore[no-untyped-call]
        except nats.errors.Error as error:
            self._log.debug("watch_not_stopped", error=str(error) or repr(error))
