"""Telemetry to the bus: many slices at once, each slice in order, until it is stored."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from microopt.agent import Context
from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Telemetry

IN_FLIGHT: Final = 512
"""Publications that wait for their acknowledgement at the same time."""


async def publish(slots: Sequence[Telemetry], ctx: Context) -> None:
    """Store `slots`, in order for each slice; return when all are stored, however long that takes."""
    for wave in waves(slots):
        while wave:
            wave = await _attempt(wave, ctx)


def waves(slots: Sequence[Telemetry], size: int = IN_FLIGHT) -> Iterator[list[Telemetry]]:
    """Yield `slots` in parts in which no slice comes twice; a part must be stored before the next."""
    of_slice: dict[str, list[Telemetry]] = defaultdict(list)
    for slot in slots:
        of_slice[slot.slice].append(slot)
    for round_ in zip_longest(*of_slice.values()):
        together = [slot for slot in round_ if slot is not None]
        yield from (together[n : n + size] for n in range(0, len(together), size))


async def _attempt(wave: list[Telemetry], ctx: Context) -> list[Telemetry]:
    """Return what could not be stored, and may be later."""
    results = await asyncio.gather(*(ctx.bus.publish(slot) for slot in wave), return_exceptions=True)
    again: list[Telemetry] = []
    reason = ""
    for slot, result in zip(wave, results, strict=True):
        if isinstance(result, TemporaryError):  # the bus has tried for long: a slot is worth waiting for
            again.append(slot)
            reason = str(result)
        elif isinstance(result, PermanentError):
            ctx.log.error("telemetry_not_published", slice=slot.slice, error=str(result))
        elif isinstance(result, BaseException):
            raise result
    if again:
        ctx.log.warning("telemetry_not_stored", slots=len(again), error=reason)
    return again
