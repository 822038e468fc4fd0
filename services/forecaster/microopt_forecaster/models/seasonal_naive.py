"""The same interval one season ago, spread by how wrong that was in the past."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from microopt.messages import Traffic
from microopt_forecaster.history import History, Slots
from microopt_forecaster.models.atoms import traffic

MIN_RESIDUALS: Final = 2
"""Fewer say nothing about a spread; three consecutive intervals have two."""
PERSISTENCE_LAGS: Final = 2
"""Persistence looks back one interval, or two: the last may have hardly begun when the forecast is made."""


@dataclass(frozen=True)
class SeasonalNaive:
    """Seasonal naive method with empirical residuals (Hyndman & Athanasopoulos, FPP3, §5.2 and §5.5).

    The level is the users in each slot of the interval one season (of `season_s`) before the forecast one; where
    less than half of its slots are known, two seasons before, and so on. The spread is that of the residuals at
    the same lag, r_k = mean(interval k) − mean(interval k − lag), over all intervals of the history with both
    known: each level is combined with the `residual_quantiles` quantiles of r at p_j = (j − ½)/J, j = 1…J,
    interpolated linearly between the order statistics at (i − ½)/n (type 5 of Hyndman & Fan 1996, Hazen's), so
    that J = n gives the residuals themselves. All combinations are equally likely.

    Without a season that can serve (too little history, or fewer than two residuals), the last interval takes its
    place: persistence, with the residuals between consecutive intervals. Without that there is no forecast.

    The method stays naive: a level that shifted is found again only a season later, and until then shows as
    residuals of one sign, which widen the spread and move it by as much as they are frequent.
    """

    season_s: float
    residual_quantiles: int = 9
    name: str = "seasonal-naive"

    def forecast(self, history: History, interval_start: float, interval_s: float) -> Traffic | None:
        """Return the traffic of the interval (start and length in s), or None when too little is known."""
        first, count = history.slot(interval_start), history.slots(interval_s)
        for lag in self._lags(history, count):
            level = history.window(first - lag, count)
            level = level[~np.isnan(level)]
            if 2 * level.size < count:
                continue
            residuals = residuals_at(lag, history, first, count)
            if residuals.size >= MIN_RESIDUALS:
                return traffic(np.add.outer(level, self._quantiles(residuals)).ravel())
        return None

    def _lags(self, history: History, count: int) -> Iterator[int]:
        season = history.slots(self.season_s)
        for lag in range(season, history.capacity, season):
            if lag >= count:  # else the lagged interval would reach into the future
                yield lag
        for intervals in range(1, PERSISTENCE_LAGS + 1):
            yield intervals * count

    def _quantiles(self, residuals: Slots) -> Slots:
        levels = (np.arange(self.residual_quantiles) + 0.5) / self.residual_quantiles
        return np.quantile(residuals, levels, method="hazen")


def residuals_at(lag: int, history: History, first: int, count: int) -> Slots:
    """Return mean(interval) − mean(interval `lag` slots earlier) of the intervals of `count` slots before `first`.

    Intervals of which less than half of the slots are known are left out. Shape (n,), oldest first.
    """
    intervals = max(0, history.capacity - lag) // count
    oldest = first - intervals * count
    now = interval_means(history.window(oldest, intervals * count), count)
    then = interval_means(history.window(oldest - lag, intervals * count), count)
    residuals = now - then
    return residuals[~np.isnan(residuals)]


def interval_means(slots: Slots, count: int) -> Slots:
    """Return the mean of each `count` slots, shape (n,), NaN where less than half of them are known."""
    intervals = slots.reshape(-1, count)
    known = np.count_nonzero(~np.isnan(intervals), axis=1)
    sums = np.nansum(intervals, axis=1)
    return np.where(2 * known >= count, sums / np.maximum(known, 1), np.nan)
