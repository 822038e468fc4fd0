"""What a swap and a crash did to the slices, from what was seen on the bus."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import numpy as np
from msgspec.structs import replace

from microopt.messages import Actuation, Allocation
from microopt_testbed.demo import scenario
from microopt_testbed.demo.scenario import Scenario
from microopt_testbed.demo.summary import Event, SliceDay, degradation, index_of
from microopt_testbed.observe import Record

AT_ONCE_S: Final = 0.1
"""The actuator switches at the start and then reads back."""


def with_effects(
    events: list[Event], record: Record, days: Mapping[str, SliceDay], start_s: float, plan: Scenario
) -> list[Event]:
    """Return the events, each with what the slices had in the interval that it touched."""
    return [replace(event, effect=_effect(event, record, days, start_s, plan)) for event in events]


def _effect(
    event: Event, record: Record, days: Mapping[str, SliceDay], start_s: float, plan: Scenario
) -> dict[str, str]:
    return {
        name: f"{_arrival(name, event.interval, record, start_s, plan)}; cost "
        f"{_mean_cost(day, event.interval - 1):.2f} → {_mean_cost(day, event.interval):.2f}, degradation "
        f"{_degraded(day, name, event.interval):.3f} in this interval"
        for name, day in days.items()
    }


def _arrival(name: str, interval: int, record: Record, start_s: float, plan: Scenario) -> str:
    """Say when the interval's allocation was in force, and by whom."""

    def is_its(allocation: Allocation) -> bool:
        return allocation.slice == name and index_of(allocation.interval.start, start_s, plan) == interval

    allocation = next(filter(is_its, record.allocations), None)
    if allocation is None:
        return f"no allocation for interval {interval}, so the blind policy ruled"
    at = _in_force_at(record.actuations, allocation)
    if at is None:
        return f"allocation by {allocation.optimizer}, not applied"
    after_s = at.timestamp() - (start_s + interval * plan.interval_s)
    if after_s <= AT_ONCE_S:
        return f"allocation by {allocation.optimizer} in force from the interval's start"
    late = f"allocation by {allocation.optimizer} in force {after_s:.1f} s into the interval"
    if after_s <= plan.grace * plan.interval_s:
        return late
    return f"{late}; until then the former one, and from its expiry on the blind policy (at least Peak-alloc)"


def _in_force_at(actuations: list[Actuation], allocation: Allocation) -> datetime | None:
    """Return when the last of its resources was first verified, or None while one is not."""
    first: dict[str, datetime] = {}
    for report in actuations:
        if (report.slice, report.epoch, report.state) == (allocation.slice, allocation.epoch, "verified"):
            first.setdefault(report.resource, report.at)
    return max(first.values()) if set(first) == set(allocation.values) else None


def _mean_cost(day: SliceDay, interval: int) -> float:
    costs = day.cost[(day.interval == interval) & np.isfinite(day.cost)]
    return float(costs.mean()) if costs.size else float("nan")


def _degraded(day: SliceDay, name: str, interval: int) -> float:
    return degradation(day.during(interval), scenario.SLAS[name].qos_threshold)
