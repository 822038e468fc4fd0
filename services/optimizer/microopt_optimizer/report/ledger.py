"""What a pool cost by day, what it saved, and what it broke."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

from msgspec import Struct

from microopt.messages import Assurance
from microopt_optimizer.report.figures import Question, Reply

HOUR_S: Final = 3600.0


class Worst(Struct, frozen=True):
    """The slice-interval with the highest realised degradation."""

    slice: str
    start: datetime
    realised: float


class Saving(Struct, frozen=True, kw_only=True):
    """Costs of the `slice_intervals` that another's cost is known of, both in cost × hours; None of none."""

    slice_intervals: int
    cost_h: float
    others_cost_h: float

    @property
    def share(self) -> float | None:
        """Return what part of the other's cost was saved; below 0 where more was spent."""
        return 1.0 - self.cost_h / self.others_cost_h if self.others_cost_h > 0.0 else None


class Sums(Struct, frozen=True, kw_only=True):
    """Sums over slice-intervals. Costs are Σ η·r times the interval's hours, so that lengths may differ."""

    slice_intervals: int
    cost_h: float
    violations: int
    unknown: int
    worst: Worst | None
    against_peak: Saving
    against_former: Saving
    saved_against_peak: float | None
    saved_against_former: float | None


class Day(Struct, frozen=True):
    """One day, UTC: the intervals that began in it."""

    day: date
    sums: Sums


class Ledger(Struct, frozen=True, kw_only=True):
    """A pool's days; `former` is the optimizer that was active before, whose answers are compared with."""

    pool: str
    since: datetime
    until: datetime
    former: str | None
    days: tuple[Day, ...]
    total: Sums
    notes: tuple[str, ...] = ()


class Stay(Struct, frozen=True, kw_only=True):
    """What the ledger needs of an `Assurance`."""

    slice: str
    start: datetime
    hours: float
    epoch: int
    optimizer: str
    status: str
    cost: float
    peak_cost: float | None
    realised: float | None
    at: datetime


class Stays:
    """The pool's assurances as they are read; the later word counts for each interval of a slice."""

    def __init__(self, pool: str, since: datetime) -> None:
        self._pool, self._since = pool, since
        self._found: dict[tuple[str, datetime], Stay] = {}

    def take(self, one: Assurance) -> None:
        """Take one assurance; those of other pools, or of intervals that began before, are not of this ledger."""
        if one.pool != self._pool or one.interval.start < self._since:
            return
        key = (one.slice, one.interval.start)
        former = self._found.get(key)
        if former is None or (one.epoch, one.at) >= (former.epoch, former.at):
            self._found[key] = _stay(one)

    @property
    def found(self) -> list[Stay]:
        """Return what was read, by time and slice."""
        return sorted(self._found.values(), key=lambda one: (one.start, one.slice))


def _stay(one: Assurance) -> Stay:
    return Stay(
        slice=one.slice,
        start=one.interval.start,
        hours=one.interval.duration_s / HOUR_S,
        epoch=one.epoch,
        optimizer=one.optimizer,
        status=one.status,
        cost=one.cost,
        peak_cost=one.peak_cost,
        realised=one.realised,
        at=one.at,
    )


def former_of(actives: Sequence[str]) -> str | None:
    """Return the last of the active optimizers, in their order, that is another than the newest."""
    return next((name for name in reversed(actives) if name != actives[-1]), None)


FormerCosts = Mapping[tuple[int, str], float]
"""What the former optimizer would have cost, by epoch and slice."""


def former_costs(questions: Mapping[str, Question], replies: Iterable[Reply], former: str) -> FormerCosts:
    """Return what the former optimizer answered to the problems that epochs came of."""
    found: dict[tuple[int, str], float] = {}
    for one in replies:
        asked = questions.get(one.problem)
        if asked and asked.epoch and one.optimizer == former and not one.failed:
            found.update({(asked.epoch, slice_): cost for slice_, cost in one.costs.items()})
    return found


def ledger(
    pool: str,
    window: tuple[datetime, datetime],
    stays: Sequence[Stay],
    former: str | None,
    costs: FormerCosts,
    notes: Sequence[str] = (),
) -> Ledger:
    """Return the days of a pool, and their totals."""
    by_day: dict[date, list[Stay]] = {}
    for one in stays:
        by_day.setdefault(one.start.astimezone(UTC).date(), []).append(one)
    return Ledger(
        pool=pool,
        since=window[0],
        until=window[1],
        former=former,
        days=tuple(Day(day, sums(found, former, costs)) for day, found in sorted(by_day.items())),
        total=sums(stays, former, costs),
        notes=(*notes, *_gaps(sorted(by_day))),
    )


def sums(stays: Sequence[Stay], former: str | None, costs: FormerCosts) -> Sums:
    """Return the sums of some slice-intervals; what the former optimizer allocated itself is not compared."""
    peak = _saving([(one, one.peak_cost) for one in stays])
    other = _saving([(one, costs.get((one.epoch, one.slice))) for one in stays if one.optimizer != former])
    known = [Worst(one.slice, one.start, one.realised) for one in stays if one.realised is not None]
    return Sums(
        slice_intervals=len(stays),
        cost_h=math.fsum(one.cost * one.hours for one in stays),
        violations=sum(one.status == "NOT_FULFILLED" for one in stays),
        unknown=sum(one.status == "UNKNOWN" for one in stays),
        worst=max(known, key=lambda one: one.realised, default=None),
        against_peak=peak,
        against_former=other,
        saved_against_peak=peak.share,
        saved_against_former=other.share,
    )


def _saving(pairs: Iterable[tuple[Stay, float | None]]) -> Saving:
    known = [(one, other) for one, other in pairs if other is not None]
    return Saving(
        slice_intervals=len(known),
        cost_h=math.fsum(one.cost * one.hours for one, _ in known),
        others_cost_h=math.fsum(other * one.hours for one, other in known),
    )


def _gaps(days: Sequence[date]) -> list[str]:
    """Say which days between the first and the last have nothing: it is not that they cost nothing."""
    if not days:
        return []
    missing = (days[-1] - days[0]).days + 1 - len(days)
    return [f"{missing} of the days between have no assurances: is the auditor running?"] if missing else []
