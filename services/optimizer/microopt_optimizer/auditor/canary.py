"""Whether a canary keeps its criteria, and the route that follows from it."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from microopt import routes
from microopt.messages import Answer, Assurance
from microopt.specs import Canary, PoolSpec, Route

AT_LEAST: Final = 3
"""Intervals before a canary is given up early."""
SHARE_OF_LATENCIES: Final = 0.95


@dataclass
class _Compared:
    """Costs by slice, of the canary and of the active, for one problem."""

    canary: dict[str, float] = field(default_factory=dict)
    active: dict[str, float] = field(default_factory=dict)


@dataclass
class Evidence:
    """What is known of a canary since it was set, as answers and assurances come in."""

    failed: int = 0
    answers: int = 0
    latencies_s: list[float] = field(default_factory=list)
    compared: dict[str, _Compared] = field(default_factory=dict)
    asked: set[datetime] = field(default_factory=set)
    """Starts of the intervals for which the canary was asked."""
    fulfilled: dict[tuple[str, datetime], tuple[str, bool]] = field(default_factory=dict)
    """By slice and start of the interval: whose answer ruled, if any did, and whether the SLA was held."""

    @property
    def judged(self) -> int:
        """Return in how many intervals the canary was asked and an SLA's status is known."""
        return len(self.asked & {start for _, start in self.fulfilled})

    def hear(self, answer: Answer, route: Route, pool: PoolSpec | None) -> None:
        """Take an answer of the canary, or of the active optimizer beside it."""
        canary = route.canary
        if canary is None or answer.pool != route.pool or _is_before(canary, answer.at):
            return
        if answer.role == "canary" and answer.optimizer == canary.optimizer:
            self._hear_canary(answer, route)
            self.compared.setdefault(answer.problem, _Compared()).canary.update(_costs(answer, route, pool))
        elif answer.role == "active" and answer.optimizer == route.active:
            self.compared.setdefault(answer.problem, _Compared()).active.update(_costs(answer, route, pool))

    def _hear_canary(self, answer: Answer, route: Route) -> None:
        self.asked.add(answer.interval.start)
        self.answers += 1
        is_refused = any(is_canarys(route, name) for name in answer.refused)
        if answer.error or answer.solution is None or is_refused:
            self.failed += 1
        if answer.solution is not None:
            self.latencies_s.append(answer.latency_s)

    def see(self, assurance: Assurance, route: Route) -> None:
        """Take what an interval of a slice came to."""
        canary = route.canary
        if canary is None or assurance.pool != route.pool or _is_before(canary, assurance.interval.start):
            return
        if assurance.status != "UNKNOWN" and is_canarys(route, assurance.slice):
            held = assurance.status == "FULFILLED"
            ruled = "" if assurance.fallback else assurance.optimizer  # nobody's, where something stood in
            self.fulfilled[assurance.slice, assurance.interval.start] = ruled, held


def _is_before(canary: Canary, time: datetime) -> bool:
    return canary.since is not None and time < canary.since


def is_canarys(route: Route, slice_: str) -> bool:
    """Return whether a slice has the canary's answers, which an exception's has not."""
    return route.canary is not None and slice_ not in route.exceptions and route.canary.has(slice_)


def _costs(answer: Answer, route: Route, pool: PoolSpec | None) -> dict[str, float]:
    """Return what the canary's slices cost in an answer, by the pool's weights; refused ones are left out."""
    if answer.solution is None or pool is None:
        return {}
    weights = {name: spec.weight for name, spec in pool.resources.items()}
    return {
        one.slice: sum(weights[name] * value for name, value in one.allocation.items())
        for one in answer.solution.slices
        if is_canarys(route, one.slice)
        and one.slice not in answer.refused
        and one.allocation
        and set(one.allocation) <= set(weights)
    }


@dataclass(frozen=True)
class Finding:
    """One criterion: what was found, None if nothing was, and how it is said."""

    name: str
    value: float | None
    limit: float
    said: str

    @property
    def is_kept(self) -> bool:
        """Return whether it was kept; what is unknown was not."""
        return self.value is not None and self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.name} {self.said} (limit {self.limit:g}): {'kept' if self.is_kept else 'missed'}"


@dataclass(frozen=True)
class Judgement:
    """What is to become of a canary, and why."""

    promote: bool
    reason: str


def judge(route: Route, evidence: Evidence) -> Judgement | None:
    """Return what to do with the route's canary, or None while it is too early to tell.

    It is judged after its number of judged intervals; before, it is rolled back once failures or missed SLAs are
    too many whatever follows.
    """
    canary = route.canary
    if canary is None:
        return None
    findings = _findings(canary, route.active, evidence)
    said = "; ".join(str(finding) for finding in findings)
    if evidence.judged >= canary.intervals:
        promote = all(finding.is_kept for finding in findings)
        what = "promoted" if promote else "rolled back"
        return Judgement(promote, f"canary {canary.optimizer} {what} after {evidence.judged} intervals: {said}")
    if lost := _lost(canary, evidence):
        early = f"rolled back after {evidence.judged} of {canary.intervals} intervals, as it cannot keep {lost}"
        return Judgement(False, f"canary {canary.optimizer} {early}: {said}")
    return None


def _findings(canary: Canary, active: str, evidence: Evidence) -> list[Finding]:
    limits = canary.criteria
    ruled = _ruled(canary, evidence)
    missed = ruled.count(False)
    latency_s = _percentile(evidence.latencies_s)
    return [
        _cost_finding(limits.cost_ratio, active, evidence),
        _share_finding("unfulfilled", missed, len(ruled), limits.unfulfilled),
        _share_finding("failures", evidence.failed, evidence.answers, limits.failures),
        Finding(
            "latency",
            latency_s,
            limits.latency_s,
            "unknown" if latency_s is None else f"{latency_s:.3g} s at 95 %",
        ),
    ]


def _cost_finding(limit: float, active: str, evidence: Evidence) -> Finding:
    canarys = actives = 0.0
    problems = 0
    for pair in evidence.compared.values():
        both = pair.canary.keys() & pair.active.keys()
        canarys += math.fsum(pair.canary[name] for name in both)
        actives += math.fsum(pair.active[name] for name in both)
        problems += bool(both)
    if actives <= 0.0:
        return Finding("cost", None, limit, f"not to be compared with {active}'s")
    ratio = canarys / actives
    return Finding("cost", ratio, limit, f"{ratio:.4g} of {active}'s on {problems} problems")


def _share_finding(name: str, count: int, total: int, limit: float) -> Finding:
    share = count / total if total else None
    return Finding(name, share, limit, f"{count} of {total}" + ("" if share is None else f" = {share:.3g}"))


def _ruled(canary: Canary, evidence: Evidence) -> list[bool]:
    """Return for each interval of a slice that the canary's answer ruled whether the SLA was held."""
    return [held for optimizer, held in evidence.fulfilled.values() if optimizer == canary.optimizer]


def _lost(canary: Canary, evidence: Evidence) -> str:
    """Return which criteria are missed even if all goes well from here on."""
    asked = len(evidence.asked)
    if asked < min(AT_LEAST, canary.intervals):
        return ""
    lost, ruled = [], _ruled(canary, evidence)
    best = evidence.failed / (evidence.answers + max(0, canary.intervals - asked))
    if best > canary.criteria.failures:
        lost.append("failures")
    slices = len({name for name, _ in evidence.fulfilled})
    total = len(ruled) + slices * max(0, canary.intervals - evidence.judged)
    if total and ruled.count(False) / total > canary.criteria.unfulfilled:
        lost.append("unfulfilled")
    return " and ".join(lost)


def _percentile(values: list[float]) -> float | None:
    """Return the value that 95 % are at most (nearest rank)."""
    if not values:
        return None
    return sorted(values)[math.ceil(SHARE_OF_LATENCIES * len(values)) - 1]


def followed(route: Route, judgement: Judgement, at: datetime) -> Route:
    """Return the route after a judgement."""
    is_promoted = judgement.promote and route.canary is not None
    changed = routes.promoted(route) if is_promoted else routes.without_canary(route)
    return replace(changed, changed_at=at, changed_by="auditor", reason=judgement.reason)
