"""Reasons to look twice at what is shown."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from microopt.messages import Band, Forecast
from microopt_forecaster.show.rows import SHOWN_COVERAGE, Row
from microopt_forecaster.show.words import duration

FEW: Final = 30
"""With fewer intervals judged, a coverage says little."""
_SURPRISE: Final = 2.5
"""Standard deviations of a share by chance."""


class LeftOut(NamedTuple):
    """What is stored of the slice and cannot be shown."""

    unreadable: int = 0
    other_intervals: int = 0
    other_slots: int = 0


def notes(newest: Forecast, rows: Sequence[Row], left_out: LeftOut, now: datetime) -> tuple[str, ...]:
    """Return what an operator should know before he trusts the forecasts."""
    return (*_of_age(newest, now), *_of_coverage(newest), *_of_telemetry(rows), *_of_left_out(left_out))


def _of_age(newest: Forecast, now: datetime) -> Iterator[str]:
    if newest.interval.end <= now:
        age = duration((now - newest.interval.end).total_seconds(), rough=True)
        yield f"the newest forecast is of an interval that ended {age} ago: is the forecaster running?"


def _of_coverage(newest: Forecast) -> Iterator[str]:
    band = next((b for b in newest.bands if b.of == "interval" and abs(b.coverage - SHOWN_COVERAGE) < 1e-9), None)
    if band is None:
        yield f"its forecasts claim no {SHOWN_COVERAGE:.0%} band of an interval's mean".replace("%", " %")
    elif band.realised is None or band.judged < FEW:
        yield f"only {band.judged} intervals were judged yet: how often bands held says little"
    elif abs(band.realised - band.coverage) > _SURPRISE * _chance(band):
        sort = "narrow" if band.realised < band.coverage else "wide"
        yield f"bands are too {sort}: {100 * band.coverage:g} % claimed, {100 * band.realised:.1f} % held"


def _chance(band: Band) -> float:
    return math.sqrt(band.coverage * (1.0 - band.coverage) / band.judged)


def _of_telemetry(rows: Sequence[Row]) -> Iterator[str]:
    over = [row for row in rows if row.state == "over"]
    if over and not any(row.known_slots for row in over):
        yield "no telemetry tells users in these intervals: is the collector running, and does it hear the slice?"


def _of_left_out(left_out: LeftOut) -> Iterator[str]:
    if left_out.unreadable:
        yield f"left out, as they cannot be read: stored messages, {left_out.unreadable:,}"
    if left_out.other_intervals:
        yield f"left out, as of another length than the spec's: intervals, {left_out.other_intervals:,}"
    if left_out.other_slots:
        yield f"left out, as of another length than the spec's: slots, {left_out.other_slots:,}"
