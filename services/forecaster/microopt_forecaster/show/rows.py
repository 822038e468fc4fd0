"""What was expected of each interval, and what came."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import dropwhile
from typing import Final, Literal

from msgspec import Struct

from microopt.messages import Band, Forecast
from microopt_forecaster.show.observed import Observed

SHOWN_COVERAGE: Final = 0.9
SETTLED_SLOTS: Final = 2
"""Slots after which what was not told of an interval is not waited for: the collector waits for late samples."""
_ROUNDING: Final = 1e-6

State = Literal["over", "running", "coming"]
Side = Literal["above", "inside", "below"]


class Row(Struct, frozen=True, kw_only=True):
    """One interval; `None` is unknown.

    `observed` is the mean users of its known slots: of an interval that is over, when at least half of them are
    known. `expected` is the mean of the forecast's traffic, `bands` are those of the interval's mean. `outcome` is
    where `observed` lies of the 90 % band, once the interval is over.
    """

    start: datetime
    state: State
    known_slots: int
    observed: float | None
    expected: float | None = None
    raised_from: float | None = None
    model: str | None = None
    made_at: datetime | None = None
    bands: tuple[Band, ...] = ()
    outcome: Side | None = None

    @property
    def band(self) -> Band | None:
        """Return the band that is drawn and judged."""
        return next((band for band in self.bands if _is_shown(band)), None)

    @property
    def error(self) -> float | None:
        """Return by how many users an interval that is over was expected wrongly."""
        if self.state != "over" or self.observed is None or self.expected is None:
            return None
        return abs(self.observed - self.expected)


class Summary(Struct, frozen=True, kw_only=True):
    """How the rows that are over turned out.

    `mean_absolute_error` is in users, `relative_error` in shares of the users that came in these intervals.
    """

    judged: int
    inside: int
    mean_absolute_error: float | None
    relative_error: float | None


class Report(Struct, frozen=True, kw_only=True):
    """All that is shown of a slice.

    `model`, `made_at` and `bands` are those of its newest forecast, `notes` are reasons to look twice.
    """

    slice: str
    interval_s: float
    slot_s: float
    slots: int
    forecast_model: str
    model: str
    made_at: datetime
    bands: tuple[Band, ...]
    rows: tuple[Row, ...]
    summary: Summary
    notes: tuple[str, ...] = ()


def rows(numbers: range, forecasts: Mapping[int, Forecast], observed: Observed, now: datetime) -> tuple[Row, ...]:
    """Return a row for each of `numbers`, as it looks at `now`, from the first that anything is known of."""
    found = [_row(number, forecasts.get(number), observed, now) for number in numbers]
    return tuple(dropwhile(lambda row: not row.known_slots and row.expected is None, found)) or tuple(found[-1:])


def summarize(shown: Sequence[Row]) -> Summary:
    """Return how many rows were inside the band, and how large their errors were."""
    outcomes = [row.outcome for row in shown if row.outcome]
    pairs = [(row.error, row.observed) for row in shown if row.error is not None and row.observed is not None]
    errors, users = math.fsum(error for error, _ in pairs), math.fsum(seen for _, seen in pairs)
    return Summary(
        judged=len(outcomes),
        inside=outcomes.count("inside"),
        mean_absolute_error=errors / len(pairs) if pairs else None,
        relative_error=errors / users if users > 0.0 else None,
    )


def _row(number: int, forecast: Forecast | None, observed: Observed, now: datetime) -> Row:
    start, end = observed.schedule.start(number), observed.schedule.start(number + 1)
    state = _state(start, end, observed, now)
    known = observed.known(number)
    enough = state == "running" or 2 * known >= observed.slots
    row = Row(
        start=start,
        state=state,
        known_slots=known,
        observed=observed.mean(number) if enough and state != "coming" else None,
    )
    return row if forecast is None else _with_forecast(row, forecast)


def _state(start: datetime, end: datetime, observed: Observed, now: datetime) -> State:
    if now < start:
        return "coming"
    settled = end + timedelta(seconds=SETTLED_SLOTS * observed.spec.slot_s)
    told = observed.heard_until is not None and observed.heard_until >= end
    return "over" if now >= settled or (now >= end and told) else "running"


def _with_forecast(row: Row, forecast: Forecast) -> Row:
    bands = tuple(band for band in forecast.bands if band.of == "interval")
    judged = row.observed if row.state == "over" else None
    return Row(
        start=row.start,
        state=row.state,
        known_slots=row.known_slots,
        observed=row.observed,
        expected=forecast.traffic.mean,
        raised_from=forecast.raised_from,
        model=forecast.model,
        made_at=forecast.made_at,
        bands=bands,
        outcome=_outcome(judged, next(filter(_is_shown, bands), None)),
    )


def _outcome(users: float | None, band: Band | None) -> Side | None:
    """Return where `users` lie; a band of flat traffic has no width, and sums are rounded."""
    if users is None or band is None:
        return None
    rounding = _ROUNDING * max(1.0, users)
    if users > band.upper + rounding:
        return "above"
    return "below" if users < band.lower - rounding else "inside"


def _is_shown(band: Band) -> bool:
    return math.isclose(band.coverage, SHOWN_COVERAGE, abs_tol=1e-9)


def is_another(model: str, former: str) -> bool:
    """Return whether none of the models that count, such as `ces+ridge`, counted before."""
    return not set(model.split("+")) & set(former.split("+"))
