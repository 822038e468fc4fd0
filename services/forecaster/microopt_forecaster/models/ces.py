"""Complex exponential smoothing, a statistical model that needs no seasons to begin."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from statsforecast.models import AutoCES

from microopt_forecaster.models.base import Fitted
from microopt_forecaster.steps import Floats, Ints, Steps

MAX_INTERVALS: Final = 504
LEAST_INTERVALS: Final = 24
MAX_SEASON: Final = 168
"""Intervals; a longer season takes seconds to fit, and is left out."""
LEAST_SEASONS: Final = 3


@dataclass(frozen=True)
class Ces:
    """CES (Svetunkov & Kourentzes 2022) on the levels of windows of an interval's length, by statsforecast."""

    name: str = "ces"

    def fit(self, steps: Steps, gap: int) -> Fitted | None:
        """Return CES with its form (simple, partial, full, seasonal) chosen by AICc."""
        levels = _windows(steps, steps.end)
        if len(levels) < LEAST_INTERVALS:
            return None
        season = steps.grid.season
        seasonal = 1 < season <= MAX_SEASON and len(levels) >= LEAST_SEASONS * season
        if np.ptp(levels) < 1e-9:  # nothing moves: nothing to fit
            return _Constant(float(levels[-1]))
        model = AutoCES(season_length=season if seasonal else 1).fit(levels)
        return _Smoothed(gap, model)


@dataclass(frozen=True)
class _Smoothed:
    gap: int
    model: Any  # statsforecast has no types

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        return np.array([self._level(steps, int(interval)) for interval in intervals])

    def _level(self, steps: Steps, interval: int) -> float:
        length = steps.grid.steps
        levels = _windows(steps, interval * length - self.gap)
        if len(levels) < LEAST_INTERVALS:
            return float("nan")
        ahead = 1 + self.gap // length
        return float(self.model.forward(levels, h=ahead)["mean"][-1])


@dataclass(frozen=True)
class _Constant:
    level: float

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        return np.full(len(intervals), self.level)


def _windows(steps: Steps, end: int) -> Floats:
    """Return the levels of the windows of an interval's length that end with step `end`, oldest first."""
    length = steps.grid.steps
    count = min(MAX_INTERVALS, (min(end, steps.end) - steps.first) // length)
    if end > steps.end or count <= 0:
        return np.empty(0)
    return steps.windows(end - length * np.arange(count, 0, -1), length)
