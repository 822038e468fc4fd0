"""Linear regression on logarithms of what was lately, and at the same hour of the last seasons."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from sklearn.linear_model import Ridge as Regression

from microopt_forecaster.day_types import DAY_S, DayTypes
from microopt_forecaster.grid import Grid
from microopt_forecaster.models.base import Fitted
from microopt_forecaster.models.waves import waves
from microopt_forecaster.steps import Floats, Ints, Steps

INTERVALS: Final = 3
INTERVALS_WITH_WAVES: Final = 12
"""Windows of an interval's length before the forecast."""
FRESH_STEPS: Final = 6
"""Single steps before the forecast."""
SEASONS: Final = 7
"""Seasons back at the same hour: of a day, so that weekdays meet weekdays."""
NEIGHBOURS: Final = (-1, 0, 1)
"""Intervals beside the same hour."""
PARTS: Final = 6
"""Parts of the same interval a season ago."""
MAX_ROWS: Final = 1_008
MAX_SEASONS: Final = 28
"""The last intervals that are fitted: so many, or those of so many seasons if they are more."""
ALIKE: Final = 4
FOUR_WEEKS: Final = 28
PENALTY: Final = 1.0
"""On standardised features. Choosing it anew at each fit by cross-validation was up to a tenth worse."""
LEAST_SEASONS_OF_WAVES: Final = 14
"""A wave of a week that is not seen twice is told from nothing else."""
ROWS_A_FEATURE: Final = 2
"""Fewer rows fit noise; then fewer seasons are looked back."""


@dataclass(frozen=True)
class Ridge:
    """Ridge regression (scikit-learn's) of an interval's level on earlier ones.

    With `days` also on the same hour of the last days of the same type, where the season is a day. With
    `with_waves` also on waves of the day and of the week and on more of the last intervals, instead of on what is
    beside the same hour of earlier days; only where an interval is one step: beside finer ones waves were no help
    through holidays (docs/adr/0014-waves.md).
    """

    name: str = "ridge"
    days: DayTypes | None = None
    with_waves: bool = False

    def fit(self, steps: Steps, gap: int) -> Fitted | None:
        """Return the regression on the last intervals, with as many seasons as they allow."""
        if not self._suits(steps.grid):
            return None
        least = LEAST_SEASONS_OF_WAVES * steps.grid.season if self.with_waves else 0
        end = steps.end // steps.grid.steps
        rows = max(MAX_ROWS, MAX_SEASONS * steps.grid.season)
        intervals = np.arange(max(steps.first // steps.grid.steps, end - rows), end)
        target = steps.levels(intervals)
        for seasons in range(SEASONS if steps.grid.season > 1 else 0, -1, -1):
            row = _Rows(_windows(steps.grid, gap, seasons, self.with_waves), gap, self.days, self.with_waves)
            features = row.features(steps, intervals)
            whole = ~np.isnan(target) & ~np.isnan(features).any(axis=1)
            if whole.sum() >= max(least, ROWS_A_FEATURE * features.shape[1]):
                return _regression(row, features[whole], target[whole])
        return None

    def _suits(self, grid: Grid) -> bool:
        if self.with_waves:
            return grid.season_s == DAY_S and grid.steps == 1
        return self.days is None or grid.season_s == DAY_S


@dataclass(frozen=True)
class _Windows:
    """The windows whose levels are features: where they begin, in steps from the interval, and how long."""

    begin: Ints
    length: Ints


@dataclass(frozen=True)
class _Rows:
    windows: _Windows
    gap: int
    days: DayTypes | None
    with_waves: bool

    def features(self, steps: Steps, intervals: Ints) -> Floats:
        """Return a row of features for each interval, NaN where history does not reach."""
        begin = intervals * steps.grid.steps
        found = [steps.windows(begin[:, None] + self.windows.begin, self.windows.length)]
        if self.days is not None:
            back = _alike(steps.grid, self.days, intervals, self.gap) * steps.grid.season * steps.grid.steps
            found.append(_mean(steps.windows(begin[:, None] - back, steps.grid.steps)))
            if self.gap == 0:  # the hour before tells how far today is like those days
                found.append(_mean(steps.windows(begin[:, None] - back - steps.grid.steps, steps.grid.steps)))
        if self.with_waves:
            found.append(waves(steps.grid, intervals))
        return np.column_stack(found)


@dataclass(frozen=True)
class _Regression:
    rows: _Rows
    weights: Floats
    constant: float

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        features = self.rows.features(steps, intervals)
        # Not `@`: how that rounds depends on how many rows there are.
        return np.asarray((features * self.weights).sum(axis=1) + self.constant, dtype=np.float64)


def _alike(grid: Grid, days: DayTypes, intervals: Ints, gap: int) -> Ints:
    """Return how many days back the last `ALIKE` days of the same type are, shape (n, ALIKE).

    Where there are fewer in four weeks, the last one is repeated, or the day before stands in.
    """
    first = 1 + (gap + grid.steps - 1) // (grid.season * grid.steps)
    back = np.arange(first, first + FOUR_WEEKS)
    then = intervals[:, None] - np.concatenate(([0], back)) * grid.season
    moments, places = np.unique(then, return_inverse=True)
    types = np.array([days.at(moment * grid.interval_s) for moment in moments.tolist()])[
        places.reshape(then.shape)
    ]
    same = types[:, 1:] == types[:, :1]
    nearest_first = np.argsort(~same, axis=1, kind="stable")  # the same ones before all others
    last = np.maximum(same.sum(axis=1) - 1, 0)
    columns = np.minimum(np.arange(ALIKE), last[:, None])
    return back[np.take_along_axis(nearest_first, columns, axis=1)]


def _mean(levels: Floats) -> Floats:
    """Return the mean of the known columns, NaN where there are none."""
    known = ~np.isnan(levels)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, levels, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _windows(grid: Grid, gap: int, seasons: int, with_waves: bool) -> _Windows:
    """Return the windows that are known `gap` steps before an interval."""
    length = grid.steps
    intervals, neighbours = (INTERVALS_WITH_WAVES, (0,)) if with_waves else (INTERVALS, NEIGHBOURS)
    found = [(-gap - k * length, length) for k in range(1, intervals + 1)]
    if length > 1:
        found += [(-gap - k, 1) for k in range(1, min(FRESH_STEPS, length) + 1)]
    for season in range(1, seasons + 1):
        same = -season * grid.season * length
        found += [(same + beside * length, length) for beside in neighbours]
    parts = min(PARTS, length)
    if seasons and parts > 1:
        edges = [part * length // parts - grid.season * length for part in range(parts + 1)]
        found += [(begin, end - begin) for begin, end in pairwise(edges)]
    known = [(begin, count) for begin, count in found if begin + count <= -gap]
    return _Windows(*np.array(known, dtype=np.int64).T)


def _regression(rows: _Rows, features: Floats, target: Floats) -> _Regression:
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-9
    found = Regression(alpha=PENALTY).fit((features - mean) / deviation, target)
    weights = found.coef_ / deviation
    return _Regression(rows, weights, float(found.intercept_ - mean @ weights))
