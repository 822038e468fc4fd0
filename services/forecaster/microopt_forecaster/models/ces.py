"""Complex exponential smoothing, a statistical model that needs no seasons to begin."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from statsforecast.ces import cescalc, cesforecast, switch_ces
from statsforecast.models import AutoCES

from microopt_forecaster.models.base import Fitted
from microopt_forecaster.steps import Floats, Ints, Steps

MAX_INTERVALS: Final = 504
LEAST_INTERVALS: Final = 24
MAX_SEASON: Final = 168
"""Intervals; a longer season takes seconds to fit, and is left out."""
LEAST_SEASONS: Final = 3
_JUDGED: Final = 3
"""statsforecast's `nmse`, which has no bearing on states."""


@dataclass(frozen=True)
class Ces:
    """CES (Svetunkov & Kourentzes 2022) on the levels of windows of an interval's length, by statsforecast."""

    name: str = "ces"

    def fit(self, steps: Steps, gap: int) -> Fitted | None:
        """Return CES with its form (simple, partial, full, seasonal) chosen by AICc."""
        length = steps.grid.steps
        end = (steps.end + gap) // length * length - gap  # where windows end that are followed by a forecast
        count = min(MAX_INTERVALS, (end - steps.first) // length)
        if count < LEAST_INTERVALS:
            return None
        levels = _windows(steps, end - count * length, end)
        season = steps.grid.season
        seasonal = 1 < season <= MAX_SEASON and len(levels) >= LEAST_SEASONS * season
        if np.ptp(levels) < 1e-9:  # nothing moves: nothing to fit
            return _Constant(float(levels[-1]))
        model = AutoCES(season_length=season if seasonal else 1).fit(levels)
        return _Smoothed(gap, levels, end, model.model_)


@dataclass(frozen=True)
class _Smoothed:
    """The windows that were fitted, which end with step `end`, and what statsforecast found."""

    gap: int
    fitted: Floats
    end: int
    model: dict[str, Any]  # statsforecast has no types

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        """Return the forecasts, all from one walk through the windows: each needs only the states before it."""
        length = steps.grid.steps
        ends = intervals * length - self.gap
        counts = len(self.fitted) + (ends - self.end) // length
        newer = _windows(steps, self.end, min(int(ends.max()), steps.end))
        states = self._states(newer)
        whole = (counts >= LEAST_INTERVALS) & (counts <= len(self.fitted) + len(newer))
        ahead = 1 + self.gap // length
        return np.array(
            [
                self._forecast(states, int(count), ahead) if known else np.nan
                for count, known in zip(counts, whole, strict=True)
            ]
        )

    def _states(self, newer: Floats) -> Floats:
        """Return the states before each window and after the last: those of the fit, and on from there."""
        season, states = self.model["m"], self.model["states"]
        fitted = states[: len(self.fitted) + season]
        found = np.zeros((len(newer) + 2 * season, states.shape[1]))
        found[:season] = fitted[-season:]
        errors, squares = np.zeros(len(newer)), np.zeros(_JUDGED)
        cescalc(
            newer, found, season, self._form, **self.model["par"], e=errors, amse=squares, nmse=_JUDGED, backfit=0
        )
        return np.concatenate([fitted, found[season : season + len(newer)]])

    def _forecast(self, states: Floats, count: int, ahead: int) -> float:
        season, found = self.model["m"], np.zeros(ahead)
        cesforecast(states[: count + season], count, season, self._form, found, ahead, **self.model["par"])
        return float(found[-1])

    @property
    def _form(self) -> int:
        return int(switch_ces(self.model["seasontype"]))


@dataclass(frozen=True)
class _Constant:
    level: float

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        return np.full(len(intervals), self.level)


def _windows(steps: Steps, begin: int, end: int) -> Floats:
    """Return the levels of the whole windows of an interval's length from step `begin` to step `end`."""
    length = steps.grid.steps
    return steps.windows(begin + length * np.arange(max(0, (end - begin) // length)), length)
