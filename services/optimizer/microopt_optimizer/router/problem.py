"""Making a pool's problem of forecasts, desired state, and what the other slices hold."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from microopt.errors import MicrooptError
from microopt.messages import Allocation, Forecast, Interval, Problem, SliceProblem, Values
from microopt.specs import Margin, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt_optimizer.router.thinning import thinned


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
    """Return how much of each resource the pool's slices that are not asked for keep."""
    total: dict[str, float] = {}
    for name, spec in slices.items():
        if spec.pool != pool or name in asked:
            continue
        for resource, value in _current(spec, last.get(name)).items():
            total[resource] = total.get(resource, 0.0) + value
    return total


def problem(
    pool: PoolSpec,
    interval: Interval,
    forecasts: Mapping[str, Forecast],
    slices: Mapping[str, SliceSpec],
    last: Mapping[str, Allocation | None],
    deadline_s: float,
    most_atoms: int,
    capacity_prices: Values,
    margins: Mapping[str, Margin],
) -> Problem:
    """Return what the optimizer is asked: the slices with a forecast, and the capacity the others leave.

    Traffic comes with at most `most_atoms` atoms; `capacity_prices` are last interval's. A slice with a margin is
    asked for with the margin's degradation threshold, and its QoS margin for as many users as are expected.
    """
    kept = held(pool.pool, slices, last, set(forecasts))
    return Problem(
        pool=pool.pool,
        interval=interval,
        resources={name: _left(spec, kept.get(name, 0.0)) for name, spec in pool.resources.items()},
        slices=[
            _slice(slices[name], forecasts[name], last.get(name), most_atoms, margins.get(name))
            for name in sorted(forecasts)
        ],
        deadline_s=deadline_s,
        capacity_prices={name: price for name, price in capacity_prices.items() if name in pool.resources},
    )


def _left(spec: ResourceSpec, kept: float) -> ResourceSpec:
    return replace(spec, capacity=max(0.0, spec.capacity - kept))


def require_room(problem: Problem) -> None:
    """Pass a problem whose floors fit into the capacity that is left.

    Raises:
        MicrooptError: they do not; says how much is missing of which resource, and that others hold the rest.
    """
    for name, resource in problem.resources.items():
        floors = sum(one.bounds[name].floor for one in problem.slices if name in one.bounds)
        if floors > resource.capacity:
            raise MicrooptError(
                f"pool {problem.pool}: infeasible: the floors of slices "
                f"{', '.join(one.slice for one in problem.slices)} need {floors:g} {resource.unit} of {name}, "
                f"the pool's other slices leave {resource.capacity:g}"
            )


def _current(spec: SliceSpec, last: Allocation | None) -> Values:
    """Return what a slice is taken to have: before its first allocation, what it was planned with."""
    return last.values if last else spec.peak_allocation


def _slice(
    spec: SliceSpec, forecast: Forecast, last: Allocation | None, most_atoms: int, margin: Margin | None
) -> SliceProblem:
    return SliceProblem(
        slice=spec.slice,
        sla=asked_sla(spec, margin, forecast.traffic.mean),
        traffic=thinned(forecast.traffic, most_atoms),
        bounds=spec.bounds,
        model=spec.model,
        peak=spec.peak,
        current=_current(spec, last),
        priority=spec.priority,
    )


def asked_sla(spec: SliceSpec, margin: Margin | None, users: float) -> Sla:
    """Return what optimizers are asked for in place of the SLA: tighter by the margins in force for that load."""
    if margin is None:
        return spec.sla.tightened(spec.qos_margin)
    learned = margin.qos_margin_at(users)
    sla = spec.sla.tightened(spec.qos_margin if learned is None else learned)
    return replace(sla, degradation_threshold=_asked_threshold(spec.sla, margin))


def _asked_threshold(sla: Sla, margin: Margin) -> float:
    """Return a margin's threshold; one made for a former SLA is taken in proportion, and relaxes nothing."""
    made_for = margin.sla_threshold
    if made_for is None or made_for == sla.degradation_threshold:
        return margin.degradation_threshold
    return sla.degradation_threshold * min(1.0, margin.degradation_threshold / made_for)
