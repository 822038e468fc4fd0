"""Telemetry to the bus: many slices at once, each slice in order, until it is stored."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from microopt import codec
from microopt.agent import Context
from microopt.bus import RETRY_WAITS_S, TOGETHER
from microopt.errors import InvalidMessageError
from microopt.messages import Telemetry

WARN_EVERY: Final = 30
"""Attempts, which come every two seconds after the first few."""


async def publish(slots: Sequence[Telemetry], ctx: Context) -> None:
    """Store `slots`, in order for each slice; return when all are stored, however long that takes."""
    for wave in waves(slots):
        left, tries = await _attempt(wave, ctx), 0
        while left:  # a slot is worth waiting for
            if tries % WARN_EVERY == 0:
                ctx.log.warning("telemetry_not_stored", slots=len(left), connected=ctx.bus.nc.is_connected)
            await asyncio.sleep(RETRY_WAITS_S[min(tries, len(RETRY_WAITS_S) - 1)])
            tries += 1
            left = await _attempt(left, ctx)


async def _attempt(wave: list[Telemetry], ctx: Context) -> list[Telemetry]:
    """Return what could not be stored, and may be later."""
    try:
        return await ctx.bus.publish_together(wave)
    except InvalidMessageError:
        return [slot for slot in wave if _is_valid(slot, ctx)]


def _is_valid(slot: Telemetry, ctx: Context) -> bool:
    try:
        codec.encode(slot)
    except InvalidMessageError as error:
        ctx.log.error("telemetry_not_published", slice=slot.slice, error=str(error))
        return False
    return True


def waves(slots: Sequence[Telemetry], size: int = TOGETHER) -> Iterator[list[Telemetry]]:
    """Yield `slots` in parts in which no slice comes twice; a part must be stored before the next."""
    of_slice: dict[str, list[Telemetry]] = defaultdict(list)
    for slot in slots:
        of_slice[slot.slice].append(slot)
    for round_ in zip_longest(*of_slice.values()):
        together = [slot for slot in round_ if slot is not None]
        yield from (together[n : n + size] for n in range(0, len(together), size))
