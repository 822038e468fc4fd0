"""How long an allocation takes to be in force, and what a restart costs."""

import asyncio
import time
from typing import Any

import numpy as np

from actuate.place import Place
from actuate.system import System, system

SLICE = "1-000001"


async def latency(place: Place, rounds: int) -> dict[str, float]:
    """Return milliseconds from publishing an allocation to its states, beside the bare call in the same run."""
    applied, verified, bare = [], [], []
    async with system(place) as one:
        await one.put_slices([SLICE])
        await one.start_actuator()
        for epoch in range(1, rounds + 1):
            value = place.values[epoch % 2]
            began_s, began = time.time(), time.perf_counter()
            await one.allocate(SLICE, epoch, value)
            done = await one.reported(SLICE, epoch, "verified")
            if epoch > 1:  # the first one finds the process cold
                report = await one.reported(SLICE, epoch, "applied")
                applied.append(report.at.timestamp() - began_s)
                verified.append(done.at.timestamp() - began_s)
            began = time.perf_counter()
            await place.bare(value)
            bare.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)
    return {
        "applied_ms_p50": _ms(applied, 50),
        "applied_ms_p99": _ms(applied, 99),
        "bare_ms_p50": _ms(bare, 50),
        "bare_ms_p99": _ms(bare, 99),
        "verified_ms_p50": _ms(verified, 50),
        "verified_ms_p99": _ms(verified, 99),
    }


async def restart(place: Place, slices: list[str]) -> dict[str, Any]:
    """Return how long a new actuator takes until all slices are verified, and how often it writes."""
    async with system(place) as one:
        await settle(one, slices)
        await one.supervisor.stop()
        one.seen.clear()
        began = time.perf_counter()
        await one.start_actuator()
        await _all_verified(one, slices)
        seconds = time.perf_counter() - began
        await asyncio.sleep(1.0)
        return {"slices": len(slices), "seconds": seconds, "writes": one.writes()}


async def settle(one: System, slices: list[str]) -> None:
    """Start the actuator and give each slice the first value, until all are verified."""
    await one.put_slices(slices)
    await one.start_actuator()
    for name in slices:
        await one.allocate(name, 1, one.place.values[0])
    await _all_verified(one, slices)


async def _all_verified(one: System, slices: list[str]) -> None:
    wanted = set(slices)
    await one.until(
        lambda: wanted <= {r.slice for r in list(one.seen) if r.state == "verified"}, "not all slices are verified"
    )


def _ms(seconds: list[float], percentile: float) -> float:
    return float(np.percentile(seconds, percentile) * 1000.0)
