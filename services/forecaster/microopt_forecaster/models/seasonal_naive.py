"""The same interval one season ago."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from microopt_forecaster.models.base import Fitted
from microopt_forecaster.steps import Floats, Ints, Steps

SEASONS: Final = 14
"""How far back to look for a season that is known."""


@dataclass(frozen=True)
class SeasonalNaive:
    """The seasonal naive method (Hyndman & Athanasopoulos, FPP3, §5.2).

    Where the interval one season ago is not known, the one before that, and so on; where none is, as in the first
    season, the last interval's length of what is known: persistence.
    """

    name: str = "seasonal-naive"

    def fit(self, steps: Steps, gap: int) -> Fitted:
        """Return the method; there is nothing to fit."""
        return _Naive(gap)


@dataclass(frozen=True)
class _Naive:
    gap: int

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        grid = steps.grid
        found = steps.windows(intervals * grid.steps - self.gap - grid.steps, grid.steps)
        unknown = np.ones(len(intervals), dtype=np.bool_)
        for seasons in range(1, SEASONS + 1 if grid.season > 1 else 1):
            if not unknown.any():
                break
            if seasons * grid.season * grid.steps < grid.steps + self.gap:
                continue  # it would reach into what is not known yet
            then = steps.levels(intervals - seasons * grid.season)
            taken = unknown & ~np.isnan(then)
            found[taken] = then[taken]
            unknown &= ~taken
        return found
