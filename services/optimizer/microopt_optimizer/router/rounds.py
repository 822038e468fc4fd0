"""Gathering the forecasts of one interval, and making the pool's problem of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from microopt.messages import Allocation, Forecast, Interval, Problem, SliceProblem
from microopt.specs import PoolSpec, ResourceSpec, SliceSpec


@dataclass
class Round:
    """The forecasts of one pool for one interval, as they come in."""

    pool: str
    interval: Interval
    forecasts: dict[str, Forecast] = field(default_factory=dict)

    def add(self, forecast: Forecast) -> None:
        """Take a forecast; a later one for the same slice replaces the former."""
        self.forecasts[forecast.slice] = forecast

    def is_complete(self, slices: Mapping[str, SliceSpec]) -> bool:
        """Return whether every slice of the pool with this interval's length has its forecast."""
        expected = {
            name
            for name, spec in slices.items()
            if spec.pool == self.pool and spec.interval_s == self.interval.duration_s
        }
        return expected <= set(self.forecasts)

    def pending(
        self, slices: Mapping[str, SliceSpec], last: Mapping[str, Allocation | None]
    ) -> dict[str, Forecast]:
        """Return the forecasts that still lack an allocation for this interval or a later one.

        This is what makes a restart harmless: an interval that was allocated is not allocated again.
        """
        return {
            name: forecast
            for name, forecast in self.forecasts.items()
            if name in slices and not _is_allocated(last.get(name), self.interval.start)
        }


def _is_allocated(allocation: Allocation | None, start: datetime) -> bool:
    return allocation is not None and allocation.interval.start >= start


def misfits(pool: PoolSpec, forecasts: Iterable[str], slices: Mapping[str, SliceSpec]) -> dict[str, str]:
    """Return which slices cannot be a part of the pool's problem as they are specified now, and why."""
    found: dict[str, str] = {}
    for name in forecasts:
        spec = slices[name]
        if unknown := sorted(set(spec.bounds) - set(pool.resources)):
            found[name] = f"slice {name} has bounds for {', '.join(unknown)}, which pool {pool.pool} has not"
        elif spec.pool != pool.pool:
            found[name] = f"slice {name} moved to pool {spec.pool}"
    return found


def held(
    pool: str, slices: Mapping[str, SliceSpec], last: Mapping[str, Allocation | None], asked: set[str]
) -> dict[str, float]:
    """Return how much of each resource the pool's slices that are not asked for keep.

    A slice without any allocation keeps its peak allocation if it has one: that is what it runs with.
    """
    total: dict[str, float] = {}
    for name, spec in slices.items():
        if spec.pool != pool or name in asked:
            continue
        allocation = last.get(name)
        for resource, value in (allocation.values if allocation else spec.peak_allocation).items():
            total[resource] = total.get(resource, 0.0) + value
    return total


def problem(
    pool: PoolSpec,
    interval: Interval,
    forecasts: Mapping[str, Forecast],
    slices: Mapping[str, SliceSpec],
    last: Mapping[str, Allocation | None],
    deadline_s: float,
) -> Problem:
    """Return what the optimizer is asked: the slices with a forecast, and the capacity the others leave."""
    kept = held(pool.pool, slices, last, set(forecasts))
    return Problem(
        pool=pool.pool,
        interval=interval,
        resources={name: _left(spec, kept.get(name, 0.0)) for name, spec in pool.resources.items()},
        slices=[_slice(slices[name], forecasts[name], last.get(name)) for name in sorted(forecasts)],
        deadline_s=deadline_s,
    )


def _left(spec: ResourceSpec, kept: float) -> ResourceSpec:
    return replace(spec, capacity=max(0.0, spec.capacity - kept))


def _slice(spec: SliceSpec, forecast: Forecast, last: Allocation | None) -> SliceProblem:
    return SliceProblem(
        slice=spec.slice,
        sla=spec.sla.tightened(spec.qos_margin),
        traffic=forecast.traffic,
        bounds=spec.bounds,
        model=spec.model,
        peak=spec.peak,
        current=last.values if last else {},
        priority=spec.priority,
    )
