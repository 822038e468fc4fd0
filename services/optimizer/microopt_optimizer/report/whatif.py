"""What a slice would cost under another SLA or another load: a changed problem, asked about and not applied."""

from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from microopt.errors import ConfigError
from microopt.messages import Forecast, Interval, Problem, SliceProblem, Solution, Traffic, Values
from microopt.specs import Margin, PoolSpec, Sla, SliceSpec
from microopt_optimizer.report.figures import solution_cost, weights_of
from microopt_optimizer.router.problem import asked_sla

TIGHTER: Final = 0.05
"""By which share the threshold is tightened for the marginal cost."""


class Change(Struct, frozen=True, kw_only=True):
    """What is to be otherwise; None stays as it is. Thresholds are the SLA's, `users` come in every slot."""

    qos_threshold: float | None = None
    degradation_threshold: float | None = None
    users: float | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """An answer for the slice, and what the whole pool costs with it.

    `degradation_price` is λ: cost by E(β), 1 being 100 percent points.
    """

    qos_threshold: float
    degradation_threshold: float
    users_mean: float
    status: str
    allocation: Values
    cost: float
    pool_cost: float
    expected_degradation: float | None
    degradation_price: float | None
    reason: str = ""


class WhatIf(Struct, frozen=True, kw_only=True):
    """A slice as it was asked for, as it would be, and with its threshold tighter by 5 % once more.

    `source` says where the problem is from, `before_from` where the answer to it is. `shorted` are other slices
    that hold their SLAs now, and would not. `cost_a_point` is what one
    percent point of the degradation threshold costs between `then` and `tighter`; None where either does not hold
    its SLA.
    """

    slice: str
    pool: str
    optimizer: str
    units: dict[str, str]
    qos_unit: str
    source: str
    before_from: str
    before: Outcome
    then: Outcome
    tighter: Outcome
    cost_a_point: float | None
    shorted: tuple[str, ...]
    solve_s: float
    notes: tuple[str, ...] = ()


def one_of(problem: Problem, name: str) -> SliceProblem:
    """Return a slice's part of a problem.

    Raises:
        ConfigError: it has none.
    """
    found = next((one for one in problem.slices if one.slice == name), None)
    if found is None:
        raise ConfigError(f"slice {name}: not in problem {problem.id}, which has {len(problem.slices)} others")
    return found


def changed(problem: Problem, name: str, change: Change, spec: SliceSpec) -> Problem:
    """Return the problem with one slice's SLA or load otherwise, and its margins in proportion as they are now.

    What optimizers are asked for is tighter than the SLA by a margin on the QoS and one on the degradation, both
    of which adapt (ADR 4 and 17): the problem itself tells how much.
    """
    one = one_of(problem, name)
    sla = one.sla
    qos_share, share = shares(sla, spec)
    if change.qos_threshold is not None:
        sla = replace(sla, qos_threshold=change.qos_threshold * qos_share)
    if change.degradation_threshold is not None:
        sla = replace(sla, degradation_threshold=_ratio(change.degradation_threshold * share))
    traffic = one.traffic if change.users is None else Traffic((change.users,), (1.0,))
    return with_slice(problem, replace(one, sla=sla, traffic=traffic))


def shares(asked: Sla, spec: SliceSpec) -> tuple[float, float]:
    """Return what share of the SLA's QoS threshold, and of its degradation threshold, is asked for."""
    sla = spec.sla
    return asked.qos_threshold / sla.qos_threshold, asked.degradation_threshold / sla.degradation_threshold


def tightened(problem: Problem, name: str) -> Problem:
    """Return the problem with one slice's degradation threshold lower by the share `TIGHTER`."""
    one = one_of(problem, name)
    lower = one.sla.degradation_threshold * (1.0 - TIGHTER)
    return with_slice(problem, replace(one, sla=replace(one.sla, degradation_threshold=lower)))


def with_slice(problem: Problem, one: SliceProblem) -> Problem:
    """Return the problem with another part for one slice."""
    return replace(problem, slices=[one if other.slice == one.slice else other for other in problem.slices])


def built(
    pool: PoolSpec, spec: SliceSpec, forecast: Forecast | None, interval: Interval, margin: Margin | None,
    users: float | None,
) -> Problem:  # fmt: skip
    """Return the problem of one slice alone in its pool, from its spec and its last forecast.

    Raises:
        ConfigError: there is no forecast, and no `users` are given either.
    """
    if forecast is None and users is None:
        raise ConfigError(f"slice {spec.slice}: neither a problem nor a forecast of it is kept; give --users")
    traffic = forecast.traffic if forecast else Traffic((users or 0.0,), (1.0,))
    one = SliceProblem(
        slice=spec.slice, sla=asked_sla(spec, margin, traffic.mean), traffic=traffic, bounds=spec.bounds,
        model=spec.model, peak=spec.peak, current=spec.peak_allocation, priority=spec.priority,
    )  # fmt: skip
    return Problem(pool=pool.pool, interval=interval, resources=pool.resources, slices=[one])


def outcome(problem: Problem, solution: Solution, name: str) -> Outcome:
    """Return what a solution says of one slice; costs are recomputed.

    Raises:
        ConfigError: the solution leaves the slice out.
    """
    asked = one_of(problem, name)
    one = next((found for found in solution.slices if found.slice == name), None)
    if one is None:
        raise ConfigError(f"optimizer {solution.optimizer} gave no answer for slice {name}")
    weights = weights_of(problem)
    return Outcome(
        qos_threshold=asked.sla.qos_threshold,
        degradation_threshold=asked.sla.degradation_threshold,
        users_mean=asked.traffic.mean,
        status=one.status,
        allocation=one.allocation,
        cost=solution_cost([one], weights),
        pool_cost=solution_cost(solution.slices, weights),
        expected_degradation=one.expected_degradation,
        degradation_price=one.degradation_price,
        reason=one.reason,
    )


def shorted(before: Solution, then: Solution, name: str) -> tuple[str, ...]:
    """Return the slices other than `name` that are infeasible then, and were not before."""
    was = {one.slice for one in before.slices if one.status == "infeasible"}
    return tuple(
        one.slice
        for one in then.slices
        if one.status == "infeasible" and one.slice not in was and one.slice != name
    )


def cost_a_point(then: Outcome, tighter: Outcome) -> float | None:
    """Return what a percent point less of the threshold costs the pool, or None where an SLA is not held."""
    points = 100.0 * (then.degradation_threshold - tighter.degradation_threshold)
    if "infeasible" in (then.status, tighter.status) or points <= 0.0:
        return None
    return (tighter.pool_cost - then.pool_cost) / points


def interval_from(now: datetime, spec: SliceSpec) -> Interval:
    """Return an interval of the slice's length that begins now."""
    return Interval(now, spec.interval_s)


def _ratio(share: float) -> float:
    return min(max(share, 1e-9), 1.0 - 1e-9)
