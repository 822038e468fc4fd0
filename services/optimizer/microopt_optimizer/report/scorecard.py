"""All optimizers of a pool, beside each other on identical inputs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from microopt.messages import Assurance
from microopt_optimizer.report.figures import Question, Reply, quantile
from microopt_optimizer.router.judging import SLACK

PENDING_S: Final = 30.0
"""How long a shadow may take to answer before it counts as absent."""
COMPARED_ROLES: Final = frozenset({"active", "canary", "exception", "shadow"})


class Reality(Struct, frozen=True, kw_only=True):
    """What came of the intervals that an optimizer's allocations were in force.

    `realised` is the share of the user-time that missed its QoS threshold, `fulfilled` that of the `judged`
    slice-intervals that kept their SLAs; `unknown` ones are in neither.
    """

    realised: float | None
    fulfilled: float | None
    judged: int
    unknown: int


class Score(Struct, frozen=True, kw_only=True):
    """One optimizer. Costs and degradations are those of the paired slices alone; None is unknown.

    `above` is the share of the `checked` slices whose expected degradation, by the slice model, is above the
    threshold that was asked for. `absent` are questions to it without any answer.
    """

    optimizer: str
    roles: tuple[str, ...]
    answers: int
    failures: int
    absent: int
    refused_slices: int
    problems: int
    cost: float | None
    cost_ratio: float | None
    expected_degradation: float | None
    above: float | None
    checked: int
    latency_p50_s: float | None
    latency_p95_s: float | None
    reality: Reality | None = None


class Scorecard(Struct, frozen=True, kw_only=True):
    """A pool's optimizers since a time; `paired_*` count what all `compared` optimizers answered."""

    pool: str
    since: datetime
    until: datetime
    active: str
    compared: tuple[str, ...]
    problems: int
    paired_problems: int
    paired_slices: int
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()


def compared_by_default(replies: Iterable[Reply]) -> tuple[str, ...]:
    """Return the optimizers that answered other than as fallbacks: a fallback is asked now and then only."""
    return tuple(sorted({one.optimizer for one in replies if one.role in COMPARED_ROLES and not one.failed}))


def pairs(replies: Iterable[Reply], compared: Sequence[str]) -> dict[str, tuple[frozenset[str], dict[str, Reply]]]:
    """Return of each problem that all of `compared` answered the slices that all answered usably, and the replies.

    Of several answers of one optimizer to one problem, the last that is a solution counts.
    """
    by_problem: dict[str, dict[str, Reply]] = {}
    for one in replies:
        if not one.failed and one.optimizer in compared:
            by_problem.setdefault(one.problem, {})[one.optimizer] = one
    found = {}
    for problem, answered in by_problem.items():
        if len(answered) == len(set(compared)):
            found[problem] = (
                frozenset.intersection(*(frozenset(one.costs) for one in answered.values())),
                answered,
            )
    return found


def realities(assurances: Iterable[Assurance]) -> dict[str, Reality]:
    """Return what came of each optimizer's intervals; the later word counts for each interval of a slice.

    Intervals in which something stood in for it, or a mode held it back, are nobody's.
    """
    by_optimizer: dict[str, list[Assurance]] = {}
    for one in _last_words(assurances):
        if not one.fallback:
            by_optimizer.setdefault(one.optimizer, []).append(one)
    return {name: _reality(found) for name, found in by_optimizer.items()}


def stood_in(assurances: Iterable[Assurance]) -> int:
    """Return how many slice-intervals are nobody's."""
    return sum(bool(one.fallback) for one in _last_words(assurances))


def _last_words(assurances: Iterable[Assurance]) -> Iterable[Assurance]:
    last: dict[tuple[str, datetime], Assurance] = {}
    for one in assurances:
        key = (one.slice, one.interval.start)
        if key not in last or (one.epoch, one.at) >= (last[key].epoch, last[key].at):
            last[key] = one
    return last.values()


def _reality(found: Sequence[Assurance]) -> Reality:
    known = [(one.realised, one.users_slots) for one in found if one.realised is not None]
    users = math.fsum(weight for _, weight in known)
    judged = [one for one in found if one.status != "UNKNOWN"]
    return Reality(
        realised=math.fsum(share * weight for share, weight in known) / users if users > 0.0 else None,
        fulfilled=sum(one.status == "FULFILLED" for one in judged) / len(judged) if judged else None,
        judged=len(judged),
        unknown=len(found) - len(judged),
    )


def scorecard(
    pool: str,
    window: tuple[datetime, datetime],
    active: str,
    questions: Mapping[str, Question],
    replies: Sequence[Reply],
    reality: Mapping[str, Reality],
    compared: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Scorecard:
    """Return the comparison of `compared` (default: all that answered other than as fallbacks) since a time."""
    compared = tuple(compared) or compared_by_default(replies)
    paired = pairs(replies, compared)
    named = {*compared, *reality, *_asked(questions), *(one.optimizer for one in replies)}
    reference = _cost(paired, active) if active in compared else None
    scores = tuple(
        _score(
            name, window[1], questions, replies, paired if name in compared else {}, reference, reality.get(name)
        )
        for name in sorted(named, key=lambda name: (name != active, name))
    )
    return Scorecard(
        pool=pool,
        since=window[0],
        until=window[1],
        active=active,
        compared=compared,
        problems=len(questions),
        paired_problems=len(paired),
        paired_slices=sum(len(slices) for slices, _ in paired.values()),
        scores=scores,
        notes=tuple(notes),
    )


def _asked(questions: Mapping[str, Question]) -> set[str]:
    """Return who was asked: also one that was never heard of is to be seen."""
    return {name for one in questions.values() for name in one.asked}


_Pairs = Mapping[str, tuple[frozenset[str], dict[str, Reply]]]


def _cost(paired: _Pairs, name: str) -> float | None:
    costs = [answered[name].costs[one] for slices, answered in paired.values() for one in slices]
    return math.fsum(costs) if costs else None


def _expected(paired: _Pairs, questions: Mapping[str, Question], name: str) -> list[tuple[float, float]]:
    """Return the expected degradation of each paired slice that was checked, and the threshold asked for."""
    return [
        (answered[name].expected[one], questions[problem].slices[one].degradation_threshold)
        for problem, (slices, answered) in paired.items()
        for one in slices
        if one in answered[name].expected
    ]


def _absent(questions: Mapping[str, Question], own: Sequence[Reply], name: str, until: datetime) -> int:
    heard, settled = {one.problem for one in own}, until.timestamp() - PENDING_S
    return sum(name in one.asked and one.problem not in heard and one.at <= settled for one in questions.values())


def _score(
    name: str,
    until: datetime,
    questions: Mapping[str, Question],
    replies: Sequence[Reply],
    paired: _Pairs,
    reference: float | None,
    reality: Reality | None,
) -> Score:
    own = [one for one in replies if one.optimizer == name]
    solved = [one for one in own if not one.failed]
    latencies = [one.latency_s for one in solved if one.latency_s > 0.0]  # 0 is what was not measured
    expected, cost = _expected(paired, questions, name), _cost(paired, name)
    return Score(
        optimizer=name,
        roles=tuple(sorted({one.role for one in own})),
        answers=len(solved),
        failures=len(own) - len(solved),
        absent=_absent(questions, own, name, until),
        refused_slices=sum(one.refused for one in own),
        problems=len({one.problem for one in solved}),
        cost=cost,
        cost_ratio=cost / reference if cost is not None and reference else None,
        expected_degradation=math.fsum(e for e, _ in expected) / len(expected) if expected else None,
        above=sum(e > allowed + SLACK for e, allowed in expected) / len(expected) if expected else None,
        checked=len(expected),
        latency_p50_s=quantile(latencies, 0.5),
        latency_p95_s=quantile(latencies, 0.95),
        reality=reality,
    )
