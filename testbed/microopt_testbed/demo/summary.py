"""What the demo came to: cost, degradation, latency, and what swap and crash did to the slices."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from msgspec import Struct

from microopt_testbed.demo import scenario
from microopt_testbed.demo.scenario import Scenario
from microopt_testbed.observe import Record
from microopt_testbed.oracle import cheapest_allocation
from microopt_testbed.surface import QosSurface

TOLERANCE: Final = 0.02
"""How far realised degradation may lie above its threshold: a day has some thousand slots a slice, no more."""
MINIMUM_SEEN: Final = 0.95
MINIMUM_ALLOCATED: Final = 0.9


class Event(Struct, frozen=True):
    """Something that the demo did to the system, and what became of the slices around it."""

    what: str
    interval: int
    effect: dict[str, str]


class Summary(Struct, frozen=True, kw_only=True):
    """The demo's result; the first eight fields are the contract of `--json`."""

    slices: list[str]
    intervals: int
    saving_vs_peak: float
    cost_vs_oracle: float
    degradation: dict[str, float]
    threshold: dict[str, float]
    forecast_to_applied_ms_p50: float
    forecast_to_applied_ms_p99: float
    cost: float
    cost_peak: float
    cost_peak_own_sla: float
    cost_oracle: float
    model: str
    traffic: str
    events: list[Event]
    problems: list[str]


@dataclass(frozen=True)
class SliceDay:
    """One slice's slots, (n,) each, in their order; QoS and cost are NaN where unknown."""

    interval: np.ndarray
    users: np.ndarray
    qos: np.ndarray
    cost: np.ndarray
    values: Mapping[str, np.ndarray]

    def during(self, interval: int) -> "SliceDay":
        """Return the slots of one interval."""
        chosen = self.interval == interval
        values = {name: series[chosen] for name, series in self.values.items()}
        return SliceDay(self.interval[chosen], self.users[chosen], self.qos[chosen], self.cost[chosen], values)


def slice_days(record: Record, start_s: float, plan: Scenario) -> dict[str, SliceDay]:
    """Return what was measured of each slice."""
    return {name: slice_day(record, name, start_s, plan) for name in scenario.SLAS}


def slice_day(record: Record, slice_: str, start_s: float, plan: Scenario) -> SliceDay:
    """Return what was measured of a slice in the intervals of the demo."""
    seen = {t.time: t for t in record.telemetry if t.slice == slice_}
    slots = [t for _, t in sorted(seen.items()) if 0 <= index_of(t.time, start_s, plan) < plan.intervals]
    return SliceDay(
        interval=np.array([index_of(t.time, start_s, plan) for t in slots], dtype=int),
        users=np.array([math.nan if t.users is None else t.users for t in slots]),
        qos=np.array([math.nan if t.qos is None else t.qos for t in slots]),
        cost=np.array([_cost(t.allocation) for t in slots]),
        values={name: np.array([t.allocation.get(name, math.nan) for t in slots]) for name in scenario.WEIGHTS},
    )


def degradation(day: SliceDay, qos_threshold: float) -> float:
    """Return the share of user-time at or below the threshold (paper eq. 1); unknown slots do not count."""
    counted = (day.users > 0) & np.isfinite(day.qos)
    users = day.users[counted]
    return float((users * (day.qos[counted] <= qos_threshold)).sum() / users.sum()) if users.size else math.nan


def oracle_cost(day: SliceDay, slice_: str, intervals: int) -> float:
    """Return the mean cost of one who knows the traffic and the truth, interval by interval."""
    sla, surface = scenario.SLAS[slice_], QosSurface.shipped()
    bounds = {name: (b.floor, b.ceiling) for name, b in scenario.BOUNDS.items()}
    costs = []
    for interval in range(intervals):
        users = day.users[(day.interval == interval) & np.isfinite(day.users)]
        best = cheapest_allocation(
            surface, users, sla.qos_threshold, sla.degradation_threshold, scenario.WEIGHTS, bounds
        )
        costs.append(math.nan if best is None else best.cost)
    return float(np.nanmean(costs))


def summarise(
    record: Record,
    plan: Scenario,
    start_s: float,
    peak: Mapping[str, float],
    peak_own_sla: Mapping[str, Mapping[str, float]],
    days: Mapping[str, SliceDay],
    events: list[Event],
    *,
    model: str,
    traffic: str,
) -> Summary:
    """Return the summary of a demo that began at `start_s`."""
    cost = sum(float(np.nanmean(day.cost)) if np.isfinite(day.cost).any() else math.nan for day in days.values())
    cost_peak = len(days) * _cost(peak)
    cost_oracle = sum(oracle_cost(day, name, plan.intervals) for name, day in days.items())
    latencies_ms = applied_after_ms(record, since=datetime.fromtimestamp(start_s, UTC))
    realised = {name: degradation(day, scenario.SLAS[name].qos_threshold) for name, day in days.items()}
    return Summary(
        slices=list(days),
        intervals=plan.intervals,
        saving_vs_peak=1.0 - cost / cost_peak,
        cost_vs_oracle=cost / cost_oracle,
        degradation=realised,
        threshold={name: scenario.SLAS[name].degradation_threshold for name in days},
        forecast_to_applied_ms_p50=_percentile(latencies_ms, 50),
        forecast_to_applied_ms_p99=_percentile(latencies_ms, 99),
        cost=cost,
        cost_peak=cost_peak,
        cost_peak_own_sla=sum(_cost(values) for values in peak_own_sla.values()),
        cost_oracle=cost_oracle,
        model=model,
        traffic=traffic,
        events=events,
        problems=_problems(record, plan, start_s, days, realised),
    )


def applied_after_ms(record: Record, since: datetime) -> list[float]:
    """Return, for each slice and epoch, the time that the system took from forecast to resources in force.

    That is from the forecast until a subscriber had the allocation, and from when it was due until the slowest
    resource was written or found to be right: the wait for the interval's start is wanted.
    """
    taken: dict[tuple[str, int, str], float] = {}
    for report in record.actuations:
        seen = record.allocated_at.get((report.slice, report.epoch))
        made_at = report.forecast_made_at
        if seen is None or made_at is None or made_at < since or report.state not in ("applied", "verified"):
            continue
        key = (report.slice, report.epoch, report.resource)
        if key not in taken:
            taken[key] = (seen - made_at).total_seconds() + report.duration_s
    slowest: dict[tuple[str, int], float] = {}
    for (slice_, epoch, _), taken_s in taken.items():
        slowest[slice_, epoch] = max(1000 * taken_s, slowest.get((slice_, epoch), 0.0))
    return list(slowest.values())


def _problems(
    record: Record, plan: Scenario, start_s: float, days: Mapping[str, SliceDay], realised: Mapping[str, float]
) -> list[str]:
    """Return why the loop did not work, or nothing."""
    found = []
    for name, day in days.items():
        wanted = plan.intervals * plan.slots_per_interval
        known = int(np.isfinite(day.users).sum())
        if known < MINIMUM_SEEN * wanted:
            found.append(f"{name}: telemetry of {known} of {wanted} slots")
        starts = {a.interval.start for a in record.allocations if a.slice == name}
        allocated = sum(0 <= index_of(s, start_s, plan) < plan.intervals for s in starts)
        if allocated < MINIMUM_ALLOCATED * plan.intervals:
            found.append(f"{name}: allocations for {allocated} of {plan.intervals} intervals")
        if not any(a.slice == name and a.state == "verified" for a in record.actuations):
            found.append(f"{name}: no allocation was verified")
        limit = scenario.SLAS[name].degradation_threshold + TOLERANCE
        if not realised[name] <= limit:
            found.append(f"{name}: degradation {realised[name]:.3f} is above {limit:.3f}")
    return found


def index_of(time: datetime, start_s: float, plan: Scenario) -> int:
    """Return the number of the demo's interval that `time` lies in; negative before the first."""
    return math.floor((time.timestamp() - start_s) / plan.interval_s + 1e-6)


def _cost(values: Mapping[str, float]) -> float:
    if set(values) != set(scenario.WEIGHTS):
        return math.nan
    return sum(scenario.WEIGHTS[name] * value for name, value in values.items())


def _percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else math.nan
