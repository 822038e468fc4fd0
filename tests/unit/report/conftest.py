from datetime import UTC, datetime, timedelta

import pytest

from microopt.messages import (
    Answer,
    Asked,
    Assurance,
    Interval,
    Problem,
    SliceCheck,
    SliceProblem,
    SliceSolution,
    Solution,
    Traffic,
)
from microopt.specs import Bounds, ResourceSpec, Sla

ZERO = datetime(2026, 1, 5, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
BOUNDS = {"bw": Bounds(5.0, 50.0), "cpu": Bounds(100.0, 4000.0)}
RESOURCES = {
    "bw": ResourceSpec(unit="Mbit/s", weight=0.02, capacity=100.0),
    "cpu": ResourceSpec(unit="millicores", weight=0.001, capacity=8000.0),
}


@pytest.fixture
def make_asked():
    """Build what was asked in hour `n`: 10 Mbit/s cost 0.2, 500 millicores 0.5."""

    def build(n: int = 0, slices=("1", "2"), threshold: float = 0.1, epoch: int = 0, **who) -> Asked:
        parts = [
            SliceProblem(
                slice=name,
                sla=Sla(qos_threshold=4.0, degradation_threshold=threshold),
                traffic=Traffic((1.0, 3.0, 9.0), (0.5, 0.45, 0.05)),
                bounds=BOUNDS,
                model="embb",
            )
            for name in slices
        ]
        problem = Problem(
            pool="edge", interval=Interval(ZERO + n * HOUR, 3600.0), resources=RESOURCES, slices=parts
        )
        return Asked(problem=problem, at=ZERO + n * HOUR, epoch=epoch, **{"active": "one", **who})

    return build


@pytest.fixture
def make_answer():
    """Build an answer: of each slice (Mbit/s, millicores), or none."""

    def build(asked: Asked, optimizer: str, values=None, *, role="shadow", expected=None, **fields) -> Answer:
        slices = [
            SliceSolution(slice=name, allocation={"bw": bw, "cpu": cpu}, status="optimal", cost=0.0)
            for name, (bw, cpu) in (values or {}).items()
        ]
        interval = asked.problem.interval
        solution = Solution(pool="edge", interval=interval, optimizer=optimizer, slices=slices, version="1")
        checks = [SliceCheck(slice=name, expected_degradation=share) for name, share in (expected or {}).items()]
        parts = {"pool": "edge", "interval": interval, "problem": asked.problem.id, "at": asked.at}
        return Answer(
            optimizer=optimizer, role=role, solution=solution if values else None, checks=checks, **parts, **fields
        )

    return build


@pytest.fixture
def make_assurance():
    """Build what hour `n` of a slice came to, with any field changed."""

    def build(n: float = 0, slice_: str = "1", **fields) -> Assurance:
        usual = {
            "slice": slice_, "pool": "edge", "interval": Interval(ZERO + n * HOUR, 3600.0), "epoch": 1,
            "optimizer": "one", "status": "FULFILLED", "degradation_threshold": 0.1, "cost": 1.0,
            "at": ZERO + (n + 1) * HOUR,
        }  # fmt: skip
        return Assurance(**{**usual, **fields})

    return build
