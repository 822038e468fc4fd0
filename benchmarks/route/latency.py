"""From the last forecast of a pool's round to its allocations, by the number of slices and of workers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from microopt import streams
from route.pools import ACTIVE, Pool, bandwidth
from route.rounds import Rounds, Took
from route.system import System, router, system, worker

SCARCE = 0.97
"""Bandwidth of a pool of several slices, as a share of what they take where there is plenty."""
WARM_UP = 2
FORECASTERS_ATOMS = 40
"""As many as our forecasters give."""


async def latency(
    model: Path, rounds: Mapping[int, int], finer: Mapping[int, int], several: int
) -> dict[str, Any]:
    """Return figures of pools by their size, each over so many rounds, with one worker and with `several`.

    `finer` are pools and rounds with as many atoms of traffic as our forecasters give, with one worker.
    """
    found: dict[str, Any] = {}
    for workers in (1, several):
        async with system(model) as one:
            await one.start(router(), *(worker(ACTIVE) for _ in range(workers)))
            heard = Rounds(one.bus)
            await heard.listen()
            for size, count in rounds.items():
                measured = await _measured(one, heard, Pool(f"pool-{size}", size), count)
                if workers == 1:
                    found[f"slices_{size}"] = measured
                else:
                    found[f"slices_{size}"][f"workers_{workers}"] = measured
            for size, count in finer.items() if workers == 1 else ():
                pool = Pool(f"finer-{size}", size, atoms=FORECASTERS_ATOMS)
                found[f"slices_{size}"][f"atoms_{FORECASTERS_ATOMS}"] = await _measured(one, heard, pool, count)
            one.require_alive()
    return found


async def begin(one: System, heard: Rounds, pool: Pool) -> None:
    """Declare a pool, make its bandwidth scarce if it has several slices, and run it warm."""
    for spec in pool.slices:
        await one.bus.put_spec(streams.SLICES, spec.slice, spec)
    await one.bus.put_spec(streams.POOLS, pool.name, pool.spec())
    await one.bus.put_spec(streams.ROUTES, pool.name, pool.route())
    took = await heard.run(pool)
    if pool.size > 1:
        pool.bandwidth = SCARCE * bandwidth([allocation.values for allocation in took.allocations])
        await one.bus.put_spec(streams.POOLS, pool.name, pool.spec())
    for _ in range(WARM_UP):
        took = await heard.run(pool)
    if took.asked.problem.resources != pool.spec().resources:
        raise RuntimeError(f"pool {pool.name}: the router does not know the pool as it is now")


def figures(took: list[Took]) -> dict[str, Any]:
    """Return what rounds took: percentiles over all their allocations, and where the time of a round went."""
    allocated_s = [seconds for one in took for seconds in one.allocated_s]
    return {
        "p50_ms": _ms(allocated_s, 50),
        "p99_ms": _ms(allocated_s, 99),
        "rounds": len(took),
        "split_rounds": sum(one.epochs > 1 for one in took),
        "solve_p50_ms": _ms([one.solve_s for one in took], 50),
        "answer_p50_ms": _ms([one.answer_s for one in took], 50),
        "told_p50_ms": _ms([one.told_s for one in took], 50),
    }


async def _measured(one: System, heard: Rounds, pool: Pool, rounds: int) -> dict[str, Any]:
    await begin(one, heard, pool)
    return figures([await heard.run(pool) for _ in range(rounds)])


def _ms(seconds: list[float], percentile: float) -> float:
    return float(np.percentile(seconds, percentile) * 1000.0)
