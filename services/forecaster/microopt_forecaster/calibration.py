"""The distribution of a forecast's errors, kept true by what the errors turn out to be."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVELS: Final = np.array([0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99])
"""Probabilities whose quantiles are tracked."""
COVERAGES: Final = (0.8, 0.9, 0.95)
"""Central bands that are claimed; their ends are among `LEVELS`."""

WINDOW: Final = 336
"""Intervals whose errors are looked at."""
STEP: Final = 0.02
"""How fast levels adapt (γ of Gibbs & Candès 2021)."""
LATELY: Final = 1.0 - 0.5 ** (1.0 / 12.0)
"""The size of errors lately forgets half in twelve intervals,"""
AGAIN: Final = 0.15
"""and the size at a phase this share from season to season."""
PHASES: Final = 48
FIRST_SIZE: Final = 0.3
LEAST_SIZE: Final = 0.02
"""Errors of less than 2 % are no surprise to anybody, and flat traffic has none at all."""
LARGEST: Final = 20.0
"""Errors are cut at so many times their usual size: one that is larger says no more."""
_REACH: Final = (-1.0, 2.0)
_TINY: Final = 1e-9

_PRIOR: Final = np.array([-3.0, -1.9, -1.2, -0.8, -0.5, -0.25, 0.0, 0.25, 0.5, 0.8, 1.2, 1.9, 3.0])
"""Scaled errors as they are usual, which stand in as long as there are few of one's own."""
_PRIOR_WEIGHT: Final = 24


@dataclass
class Calibration:
    """Quantiles of a level's errors, adapted after each interval.

    An error is log(users + offset) − level. An interval brings one or several, such as its slots'; they are scaled
    by their present size, and counted as one interval. `season` is in intervals.
    """

    season: int
    width: int = 1
    """Errors an interval."""
    levels: Floats = field(default_factory=LEVELS.copy)
    """Probabilities at which the errors' quantiles are taken, adapted so that `LEVELS` come true."""
    size: float = FIRST_SIZE
    sizes: Floats = field(init=False)
    """Of each phase of the season, NaN where it was never seen."""
    scaled: Floats = field(init=False)
    """The last intervals' scaled errors, shape (WINDOW, width), NaN where there are none."""
    inside: Floats = field(init=False)
    """Shares of the last intervals' errors inside each band of `COVERAGES`, shape (WINDOW, 3)."""
    count: int = 0

    def __post_init__(self) -> None:
        self.sizes = np.full(min(self.season, PHASES), np.nan)
        self.scaled = np.full((WINDOW, self.width), np.nan)
        self.inside = np.full((WINDOW, len(COVERAGES)), np.nan)

    def quantiles(self, interval: int) -> Floats:
        """Return the errors at `LEVELS` that are expected in `interval`, in logarithms, ascending."""
        return self._scaled_quantiles() * self._size(interval)

    def update(self, interval: int, errors: Floats) -> None:
        """Take the `width` errors of `interval`: adapt the levels, and the sizes that errors have."""
        scaled = np.clip(errors / self._size(interval), -LARGEST, LARGEST)
        expected = self._scaled_quantiles()
        below = (scaled[:, None] <= expected + _TINY).mean(axis=0)
        # Sorted: a level that overtook its neighbour would be judged by the other's quantile, and run away.
        self.levels = np.sort(np.clip(self.levels + STEP * (LEVELS - below), *_REACH))
        row = self.count % WINDOW
        self.inside[row] = _inside(scaled, expected)
        self.scaled[row] = scaled
        self.count += 1
        self._resize(interval, float(np.abs(errors).mean()))

    def realised(self) -> tuple[Floats, int]:
        """Return the share of the errors that was inside each band of `COVERAGES`, and of how many intervals."""
        judged = min(self.count, WINDOW)
        return (self.inside[:judged].mean(axis=0) if judged else np.full(len(COVERAGES), np.nan)), judged

    def _scaled_quantiles(self) -> Floats:
        own = self.scaled[: min(self.count, WINDOW)].ravel()
        if self.count < _PRIOR_WEIGHT:
            repeats = max(1, round((_PRIOR_WEIGHT - self.count) * self.width / len(_PRIOR)))
            own = np.concatenate([own, np.repeat(_PRIOR, repeats)])
        pool = np.sort(own)
        at = np.clip(self.levels, 0.0, 1.0) * len(pool) - 0.5  # Hazen's plotting positions
        found = np.interp(at, np.arange(len(pool)), pool)
        over, under = np.maximum(0.0, self.levels - 1.0), np.maximum(0.0, -self.levels)
        reach = np.ptp(pool) + _TINY  # no error was so large or so small: go on as far as that is beyond
        return np.asarray(found + reach * (over - under), dtype=np.float64)

    def _size(self, interval: int) -> float:
        here = self.sizes[self._phase(interval)]
        size = self.size if np.isnan(here) else float(np.sqrt(self.size * here))
        return max(LEAST_SIZE, size)

    def _resize(self, interval: int, size: float) -> None:
        share = max(LATELY, 1.0 / (self.count + 2.0))
        self.size += share * (min(size, 5.0 * max(self.size, LEAST_SIZE)) - self.size)
        phase = self._phase(interval)
        here = self.size if np.isnan(self.sizes[phase]) else float(self.sizes[phase])
        self.sizes[phase] = here + AGAIN * (min(size, 5.0 * max(here, LEAST_SIZE)) - here)

    def _phase(self, interval: int) -> int:
        return interval % self.season * len(self.sizes) // self.season


def _inside(scaled: Floats, expected: Floats) -> Floats:
    return np.array([np.mean((scaled >= low - _TINY) & (scaled <= high + _TINY)) for low, high in bands(expected)])


def bands(quantiles: Floats) -> list[tuple[float, float]]:
    """Return the lower and upper end of each band of `COVERAGES` among the quantiles at `LEVELS`."""
    found = []
    for coverage in COVERAGES:
        low = int(np.argmin(np.abs(LEVELS - (1.0 - coverage) / 2.0)))
        found.append((float(quantiles[low]), float(quantiles[len(LEVELS) - 1 - low])))
    return found
