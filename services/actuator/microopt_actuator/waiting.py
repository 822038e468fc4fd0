"""Allocations that came before the spec of their slice or pool, or after it was lost: kept until it is there."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from microopt import codec, subjects
from microopt.bus import Bus
from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Allocation
from microopt_actuator.reconciler import SpecMissing

PAUSE_S: Final = 0.25
"""Lets specs come together, as they do when all are put anew."""


class Waiting:
    """Takes a slice's allocations one at a time; the newest that lacks a spec is tried again with each spec.

    As a message that comes again it would be given up after a few times, and its slice not be held until the next.
    """

    def __init__(self, take: Callable[[Allocation], Awaitable[None]]) -> None:
        self._take = take
        self._of: dict[str, Allocation] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._again = asyncio.Event()
        self._log = structlog.get_logger("microopt.actuator.waiting")

    async def take(self, allocation: Allocation) -> None:
        """Take `allocation`, or keep it where a spec is missing.

        Raises:
            TemporaryError: as what takes says, for another reason.
            PermanentError: as what takes says, or a newer one waits.
        """
        async with self._locks[allocation.slice]:
            waits = self._of.get(allocation.slice)
            if waits is not None and waits.epoch > allocation.epoch:
                raise PermanentError(
                    f"allocation of slice {allocation.slice}: epoch {allocation.epoch} is lower than "
                    f"{waits.epoch}, which waits for a spec; is there a second router?"
                )
            try:
                await self._take(allocation)
            except SpecMissing as error:
                self._of[allocation.slice] = allocation
                self._log.warning(
                    "allocation_waits", slice=allocation.slice, epoch=allocation.epoch, error=str(error)
                )
            else:
                self._of.pop(allocation.slice, None)

    def try_again(self) -> None:
        """Say that there is a spec that was not there before."""
        self._again.set()

    async def run(self, bus: Bus) -> None:
        """Try those that wait whenever there is reason to, for ever."""
        while True:
            await self._again.wait()
            await asyncio.sleep(PAUSE_S)
            self._again.clear()
            for slice_ in list(self._of):
                async with self._locks[slice_]:
                    if slice_ in self._of:
                        await self._try(self._of[slice_], bus)

    async def _try(self, allocation: Allocation, bus: Bus) -> None:
        try:
            await self._take(allocation)
        except SpecMissing:
            return
        except TemporaryError:
            self._again.set()
            return
        except PermanentError as error:
            await self._bury(allocation, error, bus)
        del self._of[allocation.slice]

    async def _bury(self, allocation: Allocation, error: PermanentError, bus: Bus) -> None:
        """Keep it where the runtime keeps what it could not use."""
        data, subject = codec.encode(allocation), subjects.of(allocation)
        try:
            await bus.dead_letter(data, subject=subject, error=error, kind=Allocation.__name__)
        except TemporaryError as away:
            self._log.error("dead_letter_not_stored", subject=subject, error=str(away))
