"""What it costs the allocations of a pool that three shadows are asked, too."""

from pathlib import Path
from typing import Any

from route.latency import begin, figures
from route.pools import ACTIVE, Pool
from route.rounds import Rounds, Took
from route.system import auditor, router, system, worker

SHADOWS = ("peak", "microopt-0sigma", "microopt-2sigma")
ANSWER_WITHIN_S = 0.3
"""So that shadows that would think for seconds are done soon; by default it is 10 s."""


async def shadow_cost(model: Path, cycles: int, answer_within_s: float = ANSWER_WITHIN_S) -> dict[str, Any]:
    """Return by how much longer allocations take where shadows are asked: medians of rounds in turns.

    In each cycle, one round of a pool without shadows and one of its like with three are measured, each right
    behind a round that does not count and when no shadow thinks any more; and one without while they think.
    """
    alone, shadowed = Pool("alone", 1), Pool("shadowed", 1, SHADOWS)
    took: dict[str, list[Took]] = {"without": [], "with": [], "while_they_think": []}
    async with system(model) as one:
        processes = (router(answer_within_s=answer_within_s), auditor())
        await one.start(*processes, worker(ACTIVE), worker(*SHADOWS, check=False))
        heard = Rounds(one.bus)
        await heard.listen()
        for pool in (alone, shadowed):
            await begin(one, heard, pool)
            await heard.shadows_done(pool)
        for cycle in range(cycles):
            for kind in ("without", "with") if cycle % 2 else ("with", "without"):
                await heard.run(alone)
                took[kind].append(await heard.run(shadowed if kind == "with" else alone))
                if kind == "with":
                    took["while_they_think"].append(await heard.run(alone))
                    await heard.shadows_done(shadowed)
        one.require_alive()
    found = {kind: figures(rounds) for kind, rounds in took.items()}
    usual_ms = found["without"]["p50_ms"]
    return {
        "shadow_cost": found["with"]["p50_ms"] / usual_ms,
        "shadow_cost_while_they_think": found["while_they_think"]["p50_ms"] / usual_ms,
        "shadows": {"optimizers": SHADOWS, "slices": shadowed.size, **found},
    }
