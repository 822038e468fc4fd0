"""Sines and cosines of the time of the day and of the week."""

from functools import lru_cache
from typing import Final

import numpy as np

from microopt_forecaster.grid import Grid
from microopt_forecaster.steps import Floats, Ints

OF_A_SEASON: Final = 6
OF_A_WEEK: Final = 3
"""How many times the fastest wave swings in a season, and in seven."""
WEEK: Final = 7
"""Seasons."""


def waves(grid: Grid, intervals: Ints) -> Floats:
    """Return the waves at each interval, shape (n, 2 * (`OF_A_SEASON` + `OF_A_WEEK`))."""
    return _table(grid.season)[intervals % (WEEK * grid.season)]


@lru_cache(maxsize=8)
def _table(season: int) -> Floats:
    """Return the waves of a whole week of `season` intervals a day; all slices share it."""
    intervals = np.arange(WEEK * season)
    columns = []
    for period, most in ((season, OF_A_SEASON), (WEEK * season, OF_A_WEEK)):
        angles = 2.0 * np.pi / period * (intervals % period)[:, None] * np.arange(1, most + 1)
        columns += [np.sin(angles), np.cos(angles)]
    return np.concatenate(columns, axis=1)
