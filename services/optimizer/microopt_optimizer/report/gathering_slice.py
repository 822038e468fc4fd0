"""From the bus to the reports of one slice: explain and what-if."""

from datetime import UTC, datetime, timedelta
from typing import Final

from microopt import desired, subjects
from microopt.bus import Bus
from microopt.errors import ConfigError
from microopt.messages import Actuation, Allocation, Answer, Asked, Assurance, Event, Forecast, Problem, Solution
from microopt.specs import Margin, Route, SliceSpec
from microopt_optimizer.report import reading
from microopt_optimizer.report.explained import Explanation, Facts, explain
from microopt_optimizer.report.gathering import active_of
from microopt_optimizer.report.whatif import (
    Change,
    Outcome,
    WhatIf,
    built,
    changed,
    cost_a_point,
    interval_from,
    one_of,
    outcome,
    shares,
    shorted,
    tightened,
)
from microopt_optimizer.report.words import moment, plural

LATELY: Final = 5
"""How many judged intervals and events are shown."""
EVENTS_INTERVALS: Final = 10


async def gather_explanation(bus: Bus, name: str, epoch: int | None) -> Explanation:
    """Return why a slice has what it has, or had in `epoch`.

    Raises:
        ConfigError: the slice or its pool is unknown, or it has no such allocation.
    """
    spec = await reading.slice_of(bus, name)
    pool = await reading.pool_of(bus, spec.pool)
    allocation = await _allocation(bus, name, epoch)
    asked = await _asked_for(bus, allocation)
    route = await desired.get(bus, Route, spec.pool)
    facts = Facts(
        spec=spec,
        pool=pool,
        allocation=allocation,
        forecast=await _forecast(bus, allocation),
        margin=await desired.get(bus, Margin, name),
        asked=asked,
        answer=await _answer_for(bus, allocation, asked),
        actuations=await _actuations(bus, allocation, epoch),
        assurances=await _assurances(bus, allocation, spec),
        events=await _events(bus, allocation, spec),
    )
    return explain(facts, route.mode_of(name) if route else "apply")


async def _allocation(bus: Bus, name: str, epoch: int | None) -> Allocation:
    subject = reading.subject_of(Allocation, name)
    if epoch is None:
        if (last := await reading.newest(bus, Allocation, subject)) is not None:
            return last
        raise ConfigError(f"slice {name}: no allocation yet; see `microopt status` and `microopt route show`")
    found: list[Allocation] = []
    epochs: list[int] = []

    def take(one: Allocation) -> bool:
        epochs.append(one.epoch)
        if one.epoch == epoch:
            found.append(one)
        return bool(found)

    await reading.each(bus, Allocation, subject, 1, take)
    if found:
        return found[0]
    kept = f"epochs {epochs[0]} to {epochs[-1]} are kept" if epochs else "none are kept"
    raise ConfigError(f"slice {name}: no allocation of epoch {epoch}; {kept}")


async def _asked_for(bus: Bus, allocation: Allocation) -> Asked | None:
    """Return what was asked for an allocation: it says which problem, and so does its epoch."""

    def is_it(asked: Asked) -> bool:
        if allocation.problem:
            return asked.problem.id == allocation.problem
        return asked.epoch == allocation.epoch

    return await reading.asked_with(bus, allocation.pool, is_it, _lead(allocation))


async def _answer_for(bus: Bus, allocation: Allocation, asked: Asked | None) -> Answer | None:
    problem = allocation.problem or (asked.problem.id if asked else "")
    if not problem:
        return None
    return await reading.answer_to(bus, allocation.pool, problem, allocation.optimizer, _lead(allocation))


def _lead(allocation: Allocation) -> datetime:
    """Return when an allocation may first have been asked for: some intervals before its own begins."""
    earlier = timedelta(seconds=3.0 * allocation.interval.duration_s)
    return max(allocation.interval.start - earlier, reading.EPOCH + timedelta(seconds=reading.SLACK_S))


async def _forecast(bus: Bus, allocation: Allocation) -> Forecast | None:
    """Return the forecast that an allocation was made from, else the last one for its interval."""
    exact: list[Forecast] = []
    others: list[Forecast] = []

    def take(one: Forecast) -> None:
        if one.interval.start == allocation.interval.start:
            (exact if one.made_at == allocation.forecast_made_at else others).append(one)

    await reading.each(bus, Forecast, reading.subject_of(Forecast, allocation.slice), _lead(allocation), take)
    found = exact or others
    return found[-1] if found else None


async def _actuations(bus: Bus, allocation: Allocation, epoch: int | None) -> dict[str, Actuation]:
    """Return the last report of each resource: of the epoch, if one was asked for."""
    found: dict[str, Actuation] = {}
    for resource in allocation.values:
        subject = f"{subjects.ROOT}.actuation.{allocation.slice}.{resource}"
        if epoch is None:
            if (last := await reading.newest(bus, Actuation, subject)) is not None:
                found[resource] = last
            continue

        def take(one: Actuation) -> None:
            if one.epoch == allocation.epoch:
                found[one.resource] = one

        await reading.each(bus, Actuation, subject, _lead(allocation), take)
    return found


async def _assurances(bus: Bus, allocation: Allocation, spec: SliceSpec) -> tuple[Assurance, ...]:
    """Return the last judged intervals of a slice, up to the allocation's own; the later word counts for each."""
    found: dict[datetime, Assurance] = {}

    def take(one: Assurance) -> None:
        if one.interval.start <= allocation.interval.start:
            found[one.interval.start] = one

    start = allocation.interval.start - timedelta(seconds=(LATELY + 2) * spec.interval_s)
    await reading.each(bus, Assurance, reading.subject_of(Assurance, spec.slice), max(start, reading.EPOCH), take)
    return tuple(found[start] for start in sorted(found)[-LATELY:])


async def _events(bus: Bus, allocation: Allocation, spec: SliceSpec) -> tuple[Event, ...]:
    """Return the last events of a slice or of its whole pool, up to the end of the allocation's interval."""
    found: list[Event] = []

    def take(one: Event) -> None:
        if one.slice in (None, spec.slice) and one.at <= allocation.interval.end:
            found.append(one)

    start = allocation.interval.start - timedelta(seconds=EVENTS_INTERVALS * spec.interval_s)
    await reading.each(bus, Event, reading.subject_of(Event, spec.pool), max(start, reading.EPOCH), take)
    return tuple(found[-LATELY:])


async def gather_whatif(bus: Bus, name: str, change: Change, optimizer: str | None, now: datetime) -> WhatIf:
    """Ask an optimizer, by default the active one, what a slice would cost otherwise; nothing is applied.

    Raises:
        ConfigError: the slice is unknown, or there is nothing to begin with.
        TemporaryError: the optimizer does not answer.
    """
    spec = await reading.slice_of(bus, name)
    problem, asked_at, source = await _problem(bus, spec, change, now)
    who = optimizer or await active_of(bus, spec.pool)
    now_solved, before_from = await _before(bus, problem, asked_at, name, who)
    asked = changed(problem, name, change, spec)
    answer = await reading.ask(bus, who, asked)
    narrower = tightened(asked, name)
    then, tighter = outcome(asked, answer, name), outcome(narrower, await reading.ask(bus, who, narrower), name)
    return WhatIf(
        slice=name,
        pool=spec.pool,
        optimizer=who,
        units={resource: one.unit for resource, one in problem.resources.items()},
        qos_unit=spec.sla.qos_unit,
        source=source,
        before_from=before_from,
        before=outcome(problem, now_solved, name),
        then=then,
        tighter=tighter,
        cost_a_point=cost_a_point(then, tighter),
        shorted=shorted(now_solved, answer, name),
        solve_s=answer.solve_s,
        notes=tuple(_remarks(spec, problem, then, tighter)),
    )


async def _problem(bus: Bus, spec: SliceSpec, change: Change, now: datetime) -> tuple[Problem, datetime, str]:
    """Return the last problem of a slice, when it was asked, and where it is from."""
    last = await reading.newest(bus, Asked, reading.subject_of(Asked, spec.pool))
    if last is None or all(one.slice != spec.slice for one in last.problem.slices):
        found: list[Asked] = []

        def take(asked: Asked) -> None:
            if any(one.slice == spec.slice for one in asked.problem.slices):
                found[:] = [asked]

        await reading.each(bus, Asked, reading.subject_of(Asked, spec.pool), 1, take)
        last = found[0] if found else None
    if last is not None:
        others = plural(len(last.problem.slices) - 1, "other slice")
        return last.problem, last.at, f"problem {last.problem.id} asked at {moment(last.at)} UTC, with {others}"
    forecast = await reading.newest(bus, Forecast, reading.subject_of(Forecast, spec.slice))
    margin = await desired.get(bus, Margin, spec.slice)
    pool = await reading.pool_of(bus, spec.pool)
    made = built(pool, spec, forecast, interval_from(now, spec), margin, change.users)
    return made, now, "its spec and last forecast, alone in its pool: no problem of it is kept"


async def _before(
    bus: Bus, problem: Problem, asked_at: datetime, name: str, optimizer: str
) -> tuple[Solution, str]:
    """Return what the optimizer answered to the unchanged problem, asking it where that is not kept."""
    around = asked_at - timedelta(seconds=reading.timeout_s(problem.deadline_s))
    recorded = await reading.answer_to(bus, problem.pool, problem.id, optimizer, around)
    if recorded and recorded.solution and any(one.slice == name for one in recorded.solution.slices):
        return recorded.solution, f"its answer of {moment(recorded.at)} UTC"
    answer = await reading.ask(bus, optimizer, problem)
    return answer, "asked for this, as its answer is not kept"


def _remarks(spec: SliceSpec, problem: Problem, then: Outcome, tighter: Outcome) -> list[str]:
    sla = one_of(problem, spec.slice).sla
    notes = []
    if sla != spec.sla:
        qos_share, share = shares(sla, spec)
        margin = qos_share - 1.0 if sla.higher_is_better else 1.0 - qos_share
        notes.append(
            f"asked for is the SLA with its margins: QoS {100.0 * margin:.3g} %, "
            f"degradation threshold × {share:.3g}"
        )
    if problem.interval.end < datetime.now(UTC):
        notes.append("the problem is of an interval that is over: its traffic is what was expected then")
    if "feasible" in (then.status, tighter.status):
        notes.append("an answer was cut short or is not proven: costs may be a little high")
    return notes
