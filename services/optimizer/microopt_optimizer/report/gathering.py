"""From the bus to the reports of a pool: scorecard, ledger, prices, replay."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from microopt import desired
from microopt.bus import Bus
from microopt.errors import ConfigError, MicrooptError
from microopt.messages import Allocation, Answer, Asked, Assurance
from microopt.specs import Route, SliceSpec
from microopt_optimizer.report import reading
from microopt_optimizer.report.figures import Reply, weights_of
from microopt_optimizer.report.ledger import Ledger, Stays, former_costs, former_of, ledger
from microopt_optimizer.report.prices import Prices, prices
from microopt_optimizer.report.replayed import Replay, Replayed, bit_exact, replayed
from microopt_optimizer.report.scorecard import Scorecard, compared_by_default, realities, scorecard, stood_in
from microopt_optimizer.report.words import plural

MORE_TIME: Final = 10.0
"""By which factor the deadline is larger where the recorded one did not suffice."""
LONGEST_S: Final = 120.0


async def active_of(bus: Bus, pool: str, actives: Sequence[str] = ()) -> str:
    """Return a pool's active optimizer: its route's, else the last of `actives`.

    Raises:
        ConfigError: it has no route, and nothing was asked lately.
    """
    if (route := await desired.get(bus, Route, pool)) is not None:
        return route.active
    if actives:
        return actives[-1]
    raise ConfigError(f"pool {pool} has no route; see `microopt route set`")


async def gather_scorecard(
    bus: Bus, pool: str, since: datetime, now: datetime, compared: Sequence[str]
) -> Scorecard:
    """Return the scorecard of a pool.

    Raises:
        ConfigError: the pool is unknown, or an optimizer that is to be compared answered nothing.
    """
    await reading.pool_of(bus, pool)
    asked, unreadable = await reading.questions(bus, pool, since)
    replies, wrong = await reading.replies(bus, pool, asked, since)
    assurances: list[Assurance] = []

    def take(one: Assurance) -> None:
        if one.pool == pool and one.interval.start >= since:
            assurances.append(one)

    unreadable += await reading.each(bus, Assurance, reading.subject_of(Assurance, "*"), since, take)
    _require_answers(compared, replies.found, since)
    in_order = sorted(asked.values(), key=lambda one: one.at)
    active = await active_of(bus, pool, [one.active for one in in_order])
    notes = _notes(unreadable + wrong, replies.strangers, stood_in(assurances))
    return scorecard(pool, (since, now), active, asked, replies.found, realities(assurances), compared, notes)


def _require_answers(compared: Sequence[str], replies: Sequence[Reply], since: datetime) -> None:
    known = compared_by_default(replies)
    for name in compared:
        if all(one.optimizer != name for one in replies):
            raise ConfigError(
                f"--optimizer {name}: no answer of it since {since:%Y-%m-%d %H:%M:%S} UTC; "
                f"answers: {', '.join(known) or 'none'}"
            )


def _notes(unreadable: int, strangers: int = 0, nobodys: int = 0) -> list[str]:
    notes = []
    if unreadable:
        notes.append(f"left out, as they cannot be read: {plural(unreadable, 'stored message')}")
    if strangers:
        notes.append(f"left out, as their problems are not kept since then: {plural(strangers, 'answer')}")
    if nobodys:
        intervals = plural(nobodys, "slice-interval")
        notes.append(f"nobody's realised and fulfilled, as stood in for or held by a mode: {intervals}")
    return notes


async def gather_ledger(bus: Bus, pool: str, since: datetime, now: datetime, against: str | None) -> Ledger:
    """Return the ledger of a pool, beside the optimizer `against`, by default the one that was active before."""
    await reading.pool_of(bus, pool)
    stays = Stays(pool, since)
    unreadable = await reading.each(bus, Assurance, reading.subject_of(Assurance, "*"), since, stays.take)
    asked, missing = await reading.questions(bus, pool, since)
    replies, wrong = await reading.replies(bus, pool, asked, since)
    actives = await reading.actives(bus, pool)
    in_order = [one.active for one in sorted(asked.values(), key=lambda one: one.at)]
    former = against or former_of(actives) or former_of(in_order)
    costs = former_costs(asked, replies.found, former) if former else {}
    return ledger(pool, (since, now), stays.found, former, costs, _notes(unreadable + missing + wrong))


async def gather_prices(bus: Bus, pool: str, now: datetime) -> Prices:
    """Return how the capacities of a pool stand."""
    spec = await reading.pool_of(bus, pool)
    specs, wrong = await desired.get_all(bus, SliceSpec)
    allocations = {
        name: found
        for name, one in specs.items()
        if one.pool == pool
        and (found := await reading.newest(bus, Allocation, reading.subject_of(Allocation, name)))
    }
    active = await active_of(bus, pool)
    answer = await reading.newest(bus, Answer, reading.solutions_of(active, pool))
    report = prices(spec, active, allocations, answer, now)
    return replace(report, notes=(*report.notes, *wrong))


async def gather_replay(
    bus: Bus, pool: str, optimizer: str, since: datetime | None, problem: str | None
) -> Replay:
    """Ask an optimizer the recorded problems of a pool again, one after the other.

    Raises:
        ConfigError: no such problem is kept.
        TemporaryError: nobody serves the optimizer.
    """
    await reading.pool_of(bus, pool)
    found: dict[str, Asked] = {}

    def take(asked: Asked) -> None:
        if problem is None or asked.problem.id == problem:
            found[asked.problem.id] = asked

    unreadable = await reading.each(bus, Asked, reading.subject_of(Asked, pool), since or 1, take)
    if not found:
        what = f"problem {problem!r}" if problem else "problem"
        raise ConfigError(
            f"pool {pool}: no {what} is kept{' since then: try an earlier --since' if since else ''}"
        )
    recorded = await _recorded(bus, pool, list(found.values()), optimizer)
    done = [await _again(bus, asked, recorded.get(name), optimizer) for name, asked in found.items()]
    return Replay(pool=pool, optimizer=optimizer, replayed=tuple(done), notes=tuple(_notes(unreadable)))


async def _recorded(bus: Bus, pool: str, asked: Sequence[Asked], optimizer: str) -> dict[str, Answer]:
    """Return for each problem the recorded solution of the optimizer, else of the one that was active."""
    around = min(one.at - timedelta(seconds=reading.timeout_s(one.problem.deadline_s)) for one in asked)
    missing = {one.problem.id: one.active for one in asked}
    found: dict[str, Answer] = {}
    for name in (optimizer, *sorted(set(missing.values()) - {optimizer})):
        wanted = {problem for problem, active in missing.items() if name in (optimizer, active)} - set(found)
        if wanted:
            answers = await reading.answers_to(bus, pool, wanted, name, around)
            found.update({problem: one for problem, one in answers.items() if one.solution})
    return found


async def _again(bus: Bus, asked: Asked, recorded: Answer | None, optimizer: str) -> Replayed:
    problem = asked.problem
    try:
        again = await reading.ask(bus, optimizer, problem)
    except MicrooptError as error:
        if str(error).startswith("nobody serves"):
            raise
        return _unanswered(asked, recorded, str(error))
    one = replayed(problem.interval.start, problem.id, problem.deadline_s, weights_of(problem), recorded, again)
    if one.bit_exact or recorded is None or recorded.solution is None or one.recorded_by != optimizer:
        return one
    larger_s = min(MORE_TIME * problem.deadline_s, LONGEST_S)
    if larger_s <= problem.deadline_s:
        return one
    try:
        longer = await reading.ask(bus, optimizer, replace(problem, deadline_s=larger_s))
    except MicrooptError as error:
        return replace(one, tried_deadline_s=larger_s, tried_error=str(error))
    exact = bit_exact(recorded.solution, longer)
    return replace(one, tried_deadline_s=larger_s, exact_at_deadline_s=larger_s if exact else None)


def _unanswered(asked: Asked, recorded: Answer | None, error: str) -> Replayed:
    problem = asked.problem
    return Replayed(
        problem=problem.id,
        start=problem.interval.start,
        deadline_s=problem.deadline_s,
        recorded_by=recorded.optimizer if recorded and recorded.solution else None,
        versions=(recorded.solution.version if recorded and recorded.solution else "", ""),
        cost=(None, 0.0),
        solve_s=(None, 0.0),
        bit_exact=False,
        error=error,
    )
