"""Keeping some of what was rejected: enough to see what is wrong, too little to fill the stream."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from microopt.agent import Context
from microopt.bus import MAX_DEAD_BYTES
from microopt.errors import TemporaryError
from microopt_collector.sources.base import Reason, Rejected

KEPT_A_MINUTE: Final = 10
QUEUE: Final = 256
MAX_BYTES: Final = 64 * 1024
"""Of one letter: they wait in memory for a bus that is away."""


class Letter(Struct, frozen=True):
    """Rejected input on its way to the bus."""

    data: bytes
    subject: str
    error: Rejected


class Quota:
    """At most `KEPT_A_MINUTE` letters a minute for each source and reason."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, Reason], tuple[float, int]] = {}

    def take(self, source: str, reason: Reason) -> bool:
        """Return whether one more may be kept."""
        now_s = self._clock()
        began_s, taken = self._windows.get((source, reason), (now_s, 0))
        if now_s - began_s >= 60.0:
            began_s, taken = now_s, 0
        self._windows[source, reason] = (began_s, taken + 1)
        return taken < KEPT_A_MINUTE


class DeadLetters:
    """Takes rejected input without waiting, and writes it when the bus can."""

    def __init__(self) -> None:
        self._quota = Quota()
        self._queue: asyncio.Queue[Letter] = asyncio.Queue(QUEUE)

    def put(self, source: str, data: bytes, subject: str, error: Rejected) -> None:
        """Keep `data` for inspection, unless enough of its kind are kept or too many wait."""
        if self._quota.take(source, error.reason) and not self._queue.full():
            self._queue.put_nowait(Letter(data[: min(MAX_BYTES, MAX_DEAD_BYTES)], subject, error))

    async def write(self, ctx: Context) -> None:
        """Publish for ever what was put."""
        while True:
            letter = await self._queue.get()
            try:
                await ctx.bus.dead_letter(
                    letter.data, subject=letter.subject, error=letter.error, kind="Measurement"
                )
            except TemporaryError as error:
                ctx.log.warning("dead_letter_not_stored", subject=letter.subject, error=str(error))
