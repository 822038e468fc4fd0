"""Why a slice has what it has: facts from the bus to an explanation."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from microopt.messages import (
    Actuation,
    Allocation,
    Answer,
    Asked,
    Assurance,
    Event,
    Forecast,
    SliceProblem,
    SliceSolution,
    Values,
)
from microopt.specs import Margin, PoolSpec, SliceSpec
from microopt_optimizer.report.figures import cost_of, users_quantile
from microopt_optimizer.report.prices import Holder, holders, savings

UPPER: Final = 0.95
EDGE: Final = 0.02
"""An expected degradation within this share of its threshold is at it."""
_ROUNDING: Final = 1e-6


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of a slice's allocation; None and empty are what is not kept."""

    spec: SliceSpec
    pool: PoolSpec
    allocation: Allocation
    forecast: Forecast | None = None
    margin: Margin | None = None
    asked: Asked | None = None
    answer: Answer | None = None
    actuations: dict[str, Actuation] = {}
    assurances: tuple[Assurance, ...] = ()
    events: tuple[Event, ...] = ()


class Load(Struct, frozen=True, kw_only=True):
    """The expected users: mean, and what a slot does not exceed with probability 95 %."""

    mean: float
    upper: float
    made_at: datetime
    model: str
    raised_from: float | None


class Wanted(Struct, frozen=True, kw_only=True):
    """The SLA, and what optimizers were asked for in its place."""

    qos_metric: str
    qos_unit: str
    higher_is_better: bool
    qos_threshold: float
    degradation_threshold: float
    asked_qos_threshold: float | None
    asked_threshold: float | None
    judged: int
    missed: float


class Given(Struct, frozen=True, kw_only=True):
    """One resource of the allocation; `state` is the last word of its actuator."""

    resource: str
    unit: str
    value: float
    answered: float | None
    bound: str
    state: str
    observed: float | None
    driver: str
    error: str
    behind: bool


class Scarce(Struct, frozen=True, kw_only=True):
    """A capacity that binds: what a unit more saves, None where slices are shorted, and who holds most of it."""

    resource: str
    unit: str
    price: float | None
    capacity: float
    most: Holder | None


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a slice has what it has, and what would change it.

    `expected` is the slice model's word where `checked`, else the optimizer's own. `threshold_binds` is None
    where it cannot be told. `cost_a_point` is what a percent point of the degradation threshold costs.
    """

    slice: str
    pool: str
    epoch: int
    start: datetime
    end: datetime
    valid_until: datetime
    optimizer: str
    status: str
    reason: str
    fallback: str
    mode: str
    load: Load | None
    wanted: Wanted
    expected: float | None
    checked: bool
    threshold_binds: bool | None
    cost: float
    answered_cost: float | None
    cost_a_point: float | None
    given: tuple[Given, ...]
    scarce: tuple[Scarce, ...]
    changes: tuple[str, ...]
    refused: str
    assurances: tuple[Assurance, ...]
    events: tuple[Event, ...]
    unknown: tuple[str, ...]


def explain(facts: Facts, mode: str) -> Explanation:
    """Return why the slice has what it has; `mode` is what its route says now."""
    allocation, asked, answer = facts.allocation, _asked(facts), _answer(facts)
    check = _check(facts)
    expected = check if check is not None else allocation.expected_degradation
    weights = {name: resource.weight for name, resource in facts.pool.resources.items()}
    price = answer.degradation_price if answer else None
    wanted = _wanted(facts, asked)
    return Explanation(
        slice=allocation.slice,
        pool=allocation.pool,
        epoch=allocation.epoch,
        start=allocation.interval.start,
        end=allocation.interval.end,
        valid_until=allocation.valid_until,
        optimizer=allocation.optimizer,
        status=allocation.status,
        reason=_own_reason(allocation),
        fallback=allocation.fallback,
        mode=mode,
        load=_load(facts, asked),
        wanted=wanted,
        expected=expected,
        checked=check is not None,
        threshold_binds=None if allocation.fallback else binds(expected, wanted.asked_threshold, price),
        cost=cost_of(_priced(allocation.values, weights), weights),
        answered_cost=cost_of(_priced(allocation.answered, weights), weights) if allocation.answered else None,
        cost_a_point=price / 100.0 if price else None,
        given=tuple(_given(facts, name, value) for name, value in sorted(allocation.values.items())),
        scarce=scarce(facts),
        changes=allocation.changes,
        refused=facts.answer.refused.get(allocation.slice, "") if facts.answer else "",
        assurances=facts.assurances,
        events=facts.events,
        unknown=tuple(_unknown(facts)),
    )


def _own_reason(allocation: Allocation) -> str:
    """Return the reason of the answer: an allocation's ends with what was changed, which is told apart."""
    return allocation.reason.removesuffix("; ".join(allocation.changes)).removesuffix("; ")


def binds(expected: float | None, threshold: float | None, price: float | None) -> bool | None:
    """Return whether the degradation threshold decides the cost: it has a price, or is all but reached."""
    if price:
        return True
    if expected is None or threshold is None:
        return None
    return expected >= threshold * (1.0 - EDGE)


def scarce(facts: Facts) -> tuple[Scarce, ...]:
    """Return the slice's resources whose capacity has a price, and who was given most of each."""
    solution = facts.answer.solution if facts.answer else None
    if solution is None:
        return ()
    found, saved = [], savings(solution)
    for name, price in sorted(solution.capacity_prices.items()):
        if price <= 0.0 or name not in facts.allocation.values or name not in facts.pool.resources:
            continue
        held = {one.slice: one.allocation.get(name, 0.0) for one in solution.slices}
        spec = facts.pool.resources[name]
        most = holders(held, 1)
        found.append(
            Scarce(
                resource=name,
                unit=spec.unit,
                price=saved[name],
                capacity=spec.capacity,
                most=most[0] if most else None,
            )
        )
    return tuple(found)


def bound_of(value: float, floor: float, ceiling: float) -> str:
    """Return which bound a value is at: `floor`, `ceiling`, or none."""
    slack = _ROUNDING * max(ceiling, 1e-12)
    if value >= ceiling - slack:
        return "ceiling"
    return "floor" if value <= floor + slack else ""


def _priced(values: Values, weights: Values) -> Values:
    return {name: value for name, value in values.items() if name in weights}


def _asked(facts: Facts) -> SliceProblem | None:
    slices = facts.asked.problem.slices if facts.asked else []
    return next((one for one in slices if one.slice == facts.allocation.slice), None)


def _answer(facts: Facts) -> SliceSolution | None:
    solution = facts.answer.solution if facts.answer else None
    return next((one for one in (solution.slices if solution else []) if one.slice == facts.spec.slice), None)


def _check(facts: Facts) -> float | None:
    checks = facts.answer.checks if facts.answer else []
    if facts.allocation.fallback or facts.allocation.changes:  # the check was of what was answered, not of this
        return None
    return next((one.expected_degradation for one in checks if one.slice == facts.spec.slice), None)


def _load(facts: Facts, asked: SliceProblem | None) -> Load | None:
    forecast = facts.forecast
    if forecast is None:
        return None
    traffic = asked.traffic if asked else forecast.traffic
    return Load(
        mean=traffic.mean,
        upper=users_quantile(traffic, UPPER),
        made_at=forecast.made_at,
        model=forecast.model,
        raised_from=forecast.raised_from,
    )


def _wanted(facts: Facts, asked: SliceProblem | None) -> Wanted:
    sla, margin = facts.spec.sla, facts.margin
    threshold = facts.allocation.asked_threshold
    if threshold is None:
        threshold = asked.sla.degradation_threshold if asked else None
    return Wanted(
        qos_metric=sla.qos_metric,
        qos_unit=sla.qos_unit,
        higher_is_better=sla.higher_is_better,
        qos_threshold=sla.qos_threshold,
        degradation_threshold=sla.degradation_threshold,
        asked_qos_threshold=asked.sla.qos_threshold if asked else None,
        asked_threshold=threshold,
        judged=margin.judged if margin else 0,
        missed=margin.missed if margin else 0.0,
    )


def _given(facts: Facts, name: str, value: float) -> Given:
    report, bounds = facts.actuations.get(name), facts.spec.bounds.get(name)
    resource = facts.pool.resources.get(name)
    return Given(
        resource=name,
        unit=resource.unit if resource else "",
        value=value,
        answered=facts.allocation.answered.get(name),
        bound=bound_of(value, bounds.floor, bounds.ceiling) if bounds else "",
        state=report.state if report else "",
        observed=report.observed if report else None,
        driver=report.driver if report else "",
        error=report.error if report else "",
        behind=report is not None and report.epoch < facts.allocation.epoch,
    )


def _unknown(facts: Facts) -> Sequence[str]:
    missing = []
    if facts.forecast is None:
        missing.append("its forecast is not kept any more")
    if facts.asked is None:
        missing.append("the problem that was asked is not kept")
    if facts.answer is None:
        missing.append("the optimizer's answer is not kept")
    if not facts.assurances:
        missing.append("no interval of it was judged lately")
    return missing
