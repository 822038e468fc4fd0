"""What models see of a slice: the mean users of each step, and logarithms of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microopt_forecaster.grid import Grid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OFFSET_SHARE: Final = 0.05
LEAST_OFFSET: Final = 1.0
"""In users: where there are few, one more or less is no matter of ratios, and less makes bands too wide."""
FILL_SEASONS: Final = 7
MOST_TIMES: Final = 10.0
"""What is more than so many times the most that was ever seen is an extrapolation gone wrong."""


class Means:
    """The mean users of contiguous steps from number `first`, shape (n,), NaN where unknown, and sums of them."""

    def __init__(self, grid: Grid, first: int, values: Floats) -> None:
        self.grid = grid
        self.first = first
        self.values = values

    def place(self, step: Ints) -> Ints:
        """Return how many of these steps lie before each of `step`."""
        return np.minimum(np.maximum(step - self.first, 0), len(self.values))  # np.clip takes thrice as long

    @cached_property
    def known(self) -> Ints:
        """Return the numbers of the steps that are known."""
        return np.flatnonzero(~np.isnan(self.values)) + self.first

    @cached_property
    def filled(self) -> Floats:
        """Return the means, gaps filled by the same step up to seven seasons before, else by the last known."""
        values = self.values.copy()
        season = self.grid.season * self.grid.steps
        for _ in range(FILL_SEASONS):
            gaps = np.flatnonzero(np.isnan(values[season:])) + season
            if not gaps.size:
                break
            values[gaps] = values[gaps - season]
        unknown = np.isnan(values)
        if unknown.any():
            values = values[np.maximum.accumulate(np.where(unknown, 0, np.arange(len(values))))]
        return values

    @cached_property
    def filled_sums(self) -> Floats:
        """Return the sums of the filled means before each step, shape (n + 1,)."""
        return np.concatenate(([0.0], np.cumsum(self.filled)))

    @cached_property
    def sums(self) -> Floats:
        """Return the sums of the known means before each step, shape (n + 1,)."""
        return np.concatenate(([0.0], np.cumsum(np.nan_to_num(self.values))))

    @cached_property
    def counts(self) -> Ints:
        """Return the numbers of known steps before each step, shape (n + 1,)."""
        return np.concatenate(([0], np.cumsum(~np.isnan(self.values))))


@dataclass(frozen=True)
class Steps:
    """A slice's steps as models see them: logarithms of means.

    `offset` (users) is added before logarithms are taken, so that no users are not infinitely less than few.
    """

    means: Means
    offset: float = LEAST_OFFSET

    @property
    def grid(self) -> Grid:
        """Return how time is cut."""
        return self.means.grid

    @property
    def first(self) -> int:
        """Return the number of the first step."""
        return self.means.first

    @property
    def end(self) -> int:
        """Return the number of the step after the last one."""
        return self.first + len(self.means.values)

    def before(self, step: int) -> "Steps":
        """Return the steps before number `step`, with the same offset."""
        values = self.means.values[: max(0, step - self.first)]
        return Steps(Means(self.grid, self.first, values), self.offset)

    def taking(self, offset: float) -> "Steps":
        """Return the same steps with this offset."""
        return Steps(self.means, offset)

    def usual_offset(self) -> float:
        """Return the offset that the last seasons call for."""
        recent = self.means.values[-FILL_SEASONS * self.grid.season * self.grid.steps :]
        known = recent[~np.isnan(recent)]
        return max(LEAST_OFFSET, OFFSET_SHARE * float(known.mean())) if known.size else LEAST_OFFSET

    def highest_level(self) -> float:
        """Return the level that nothing sensible exceeds: `MOST_TIMES` the most that a step ever had."""
        known = self.means.values[~np.isnan(self.means.values)]
        return float(np.log(MOST_TIMES * known.max() + self.offset)) if known.size else np.inf

    def levels(self, intervals: Ints) -> Floats:
        """Return log(mean users + offset) of each interval, NaN where less than half of its steps is known."""
        means, steps = self.means, self.grid.steps
        begin, end = means.place(intervals * steps), means.place((intervals + 1) * steps)
        count = means.counts[end] - means.counts[begin]
        total = np.maximum(means.sums[end] - means.sums[begin], 0.0)
        return np.where(2 * count >= steps, np.log(total / np.maximum(count, 1) + self.offset), np.nan)

    def windows(self, begin: Ints, length: Ints | int) -> Floats:
        """Return log(mean users + offset) of `length` steps from `begin`, gaps filled; NaN beyond the ends.

        The two broadcast.
        """
        means = self.means
        total = means.filled_sums[means.place(begin + length)] - means.filled_sums[means.place(begin)]
        found = np.log(np.maximum(total, 0.0) / length + self.offset)
        return np.where((begin >= self.first) & (begin + length <= self.end), found, np.nan)
