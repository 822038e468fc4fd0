"""A setting of the paper as the problem that optimizers are asked."""

from datetime import UTC, datetime
from typing import Final

from microopt.messages import Interval, Problem, SliceProblem, Traffic
from microopt.specs import ResourceSpec, Sla
from microopt_testbed.experiments.settings import BOUNDS, UNITS, WEIGHTS, Setting

MODEL: Final = "slice"
_SLICE: Final = "1-000001"
_AMPLE: Final = 1e6
"""Capacity that one slice cannot use up: the paper's experiments have a single slice."""


def as_problem(setting: Setting, deadline_s: float) -> Problem:
    """Return the problem of one slice alone; its model goes by the name MODEL."""
    one = SliceProblem(
        slice=_SLICE,
        sla=Sla(qos_threshold=setting.qos_threshold, degradation_threshold=setting.degradation_threshold),
        traffic=Traffic(setting.users, setting.weights),
        bounds=BOUNDS,
        model=MODEL,
    )
    return Problem(
        pool="paper",
        interval=Interval(datetime(2024, 5, 18, tzinfo=UTC), 3600.0),
        resources={
            name: ResourceSpec(unit=UNITS[name], weight=WEIGHTS[name], capacity=_AMPLE) for name in WEIGHTS
        },
        slices=[one],
        deadline_s=deadline_s,
    )
