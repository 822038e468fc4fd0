"""Whose turn it is where slices share a capacity: those that shrink go first."""

import asyncio
from typing import Final

Capacity = tuple[str, str]
"""Pool and resource."""

LONGEST_WAIT_S: Final = 0.5
"""One that shrinks but cannot be written, because its driver is away, holds nobody up for longer."""


class Turns:
    """Lets those that grow wait until those that shrink at the same time have done so.

    Otherwise the sum of what slices have exceeds the capacity for as long as the writes take.
    """

    def __init__(self) -> None:
        self._shrinking: dict[Capacity, set[object]] = {}
        self._free: dict[Capacity, asyncio.Event] = {}

    def shrink(self, capacity: Capacity, who: object) -> None:
        """Let others wait for `who`."""
        self._shrinking.setdefault(capacity, set()).add(who)
        self._free.setdefault(capacity, asyncio.Event()).clear()

    def done(self, capacity: Capacity, who: object) -> None:
        """Let nobody wait for `who` any more."""
        waited_for = self._shrinking.get(capacity)
        if waited_for is None:
            return
        waited_for.discard(who)
        if not waited_for:
            self._free[capacity].set()

    async def grow(self, capacity: Capacity, who: object) -> None:
        """Let `who` wait until nobody shrinks, at most `LONGEST_WAIT_S`."""
        self.done(capacity, who)  # it had asked to shrink, and now has less than it is to have
        if not self._shrinking.get(capacity):
            return
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._free[capacity].wait()
        except TimeoutError:
            return
