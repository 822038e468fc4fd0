"""What there is to audit."""

from datetime import UTC, datetime

import pytest

from microopt import streams
from microopt.messages import (
    Asked,
    Interval,
    Problem,
    SliceProblem,
    Traffic,
)
from real.auditor import INTERVAL_S, SLOT_S


@pytest.fixture
async def slices(bus, make_pool, make_slice):
    """Put a pool and its two slices."""
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    for name in ("1", "2"):
        await bus.put_spec(streams.SLICES, name, make_slice(name, interval_s=INTERVAL_S, slot_s=SLOT_S))


@pytest.fixture
def make_asked(make_pool, make_slice):
    """Build what the router says that it asked."""

    def build(*shadows: str, epoch: int = 1, start: datetime | None = None, duration_s: float = 60.0) -> Asked:
        spec, now = make_slice(), start or datetime.now(UTC)
        slices = [
            SliceProblem(slice=n, sla=spec.sla, traffic=Traffic((3.0,), (1.0,)), bounds=spec.bounds, model="embb")
            for n in ("1", "2")
        ]
        problem = Problem(
            pool="edge", interval=Interval(now, duration_s), resources=make_pool().resources, slices=slices
        )
        return Asked(problem=problem, active="one", at=now, shadows=shadows, epoch=epoch)

    return build
