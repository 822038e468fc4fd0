"""The traffic of one slice: weeks as means of steps, and the slots of intervals, those of the last ones each."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from microopt_forecaster.calibration import WINDOW
from microopt_forecaster.grid import Grid
from microopt_forecaster.steps import Floats, Means, Steps

Short = NDArray[np.float32]

MAX_HELD: Final = 65_536
"""Steps a slice, 512 KB; a horizon of more is cut to its newest ones."""
RECENT_INTERVALS: Final = 4
SLOTS: Final = 6
"""Quantiles in which the slots of an interval are summed up, in the midst of equal shares."""
SHARES: Final = (np.arange(SLOTS) + 0.5) / SLOTS


class History:
    """Rings of step means, of recent slots, and of the quantiles of older intervals' slots; NaN is unknown.

    Slots may come in any order. Among the recent ones the latest word on a slot is the one that counts; older ones
    move the mean of their step, as imported history does. A step is known if half of its slots are.
    """

    def __init__(self, grid: Grid, horizon_s: float) -> None:
        self.grid = grid
        self.capacity = min(MAX_HELD, max(RECENT_INTERVALS * grid.steps, grid.steps_in(horizon_s)))
        self._means: Short = np.full(self.capacity, np.nan, dtype=np.float32)
        self._counts = np.zeros(self.capacity, dtype=np.uint32)
        self._recent: Short = np.full((RECENT_INTERVALS * grid.steps, grid.step_slots), np.nan, dtype=np.float32)
        self._sums: Short = np.full((WINDOW, SLOTS), np.nan, dtype=np.float32)
        self._newest: int | None = None  # the newest step that holds a known slot
        self._changed: set[int] = set()  # recent steps whose mean is to be taken anew

    def __len__(self) -> int:
        """Return the number of steps that are known."""
        return len(self.steps().means.known)

    @property
    def newest(self) -> int | None:
        """Return the newest step with a known slot."""
        return self._newest

    @property
    def recent_shape(self) -> tuple[int, int]:
        """Return the shape of the recent slots: steps, and slots in each."""
        steps, slots = self._recent.shape
        return steps, slots

    def arrays(self) -> tuple[Short, NDArray[np.uint32], Short, Short]:
        """Return the rings of means, of counts, of recent slots, and of slots summed up."""
        self._settle()
        return self._means, self._counts, self._recent, self._sums

    def set_arrays(
        self, newest: int | None, means: Short, counts: NDArray[np.uint32], recent: Short, sums: Short
    ) -> None:
        """Hold these rings, as `arrays` gave them."""
        self._newest = newest
        self._means, self._counts, self._recent, self._sums = means, counts, recent, sums
        self._changed.clear()

    def add(self, time_s: float, users: float | None) -> None:
        """Note the users of the slot that holds `time_s`; `None`, and slots beyond the horizon, are ignored."""
        if users is None:
            return
        step, slot = self.grid.place(time_s)
        if self._newest is None or step > self._newest:
            self._advance(step)
        assert self._newest is not None  # noqa: S101  # just advanced
        age = self._newest - step
        if age < len(self._recent):
            self._recent[step % len(self._recent), slot] = users
            self._changed.add(step)
        elif age < self.capacity:
            self._move_mean(step % self.capacity, users)

    def steps(self) -> Steps:
        """Return the steps as they are known now, from the oldest that is held."""
        self._settle()
        if self._newest is None:
            return Steps(Means(self.grid, 0, np.empty(0)))
        first = self._newest - self.capacity + 1
        places = np.arange(first, self._newest + 1) % self.capacity
        known = 2 * self._counts[places] >= self.grid.step_slots
        means = np.where(known, self._means[places], np.nan).astype(np.float64)
        begin = int(np.argmax(known)) if known.any() else len(known)
        return Steps(Means(self.grid, first + begin, means[begin:]))

    def slots(self, interval: int) -> Floats | None:
        """Return the known users in the slots of `interval`, or None where nothing of them is held.

        Of those before the recent ones it is `SLOTS` quantiles.
        """
        if self._newest is None or interval > self._newest // self.grid.steps:
            return None
        oldest = self._oldest_recent(self._newest)
        if interval >= oldest:
            return self._recent_slots(interval)
        if interval < oldest - WINDOW:
            return None
        found = self._sums[interval % WINDOW].astype(np.float64)
        return None if np.isnan(found).any() else found

    def resampled(self, grid: Grid, horizon_s: float) -> "History":
        """Return the history on another `grid`; a step without a slot that begins in it has the mean around it."""
        other = History(grid, horizon_s)
        if (grid.slot_us, grid.step_us, grid.steps) == (self.grid.slot_us, self.grid.step_us, self.grid.steps):
            other._recent, other._sums = self._recent.copy(), self._sums.copy()
        steps = self.steps()
        first_us, end_us = steps.first * self.grid.step_us, steps.end * self.grid.step_us
        begin, end = -(-first_us // grid.step_us), end_us // grid.step_us
        begin = max(begin, end - other.capacity)
        if begin < end:
            other._fill(begin, _averaged(steps.means, grid, begin, end))
        return other

    def _fill(self, first: int, means: Floats) -> None:
        """Hold these means of whole steps, and nothing else."""
        places = np.arange(first, first + len(means)) % self.capacity
        self._means[places] = means
        self._counts[places] = np.where(np.isnan(means), 0, self.grid.step_slots)
        self._newest = first + len(means) - 1

    def _advance(self, step: int) -> None:
        self._settle()
        last = step - 1 if self._newest is None else self._newest
        self._sum_up(self._oldest_recent(last), self._oldest_recent(step))
        forgotten = np.arange(max(last + 1, step - self.capacity + 1), step + 1)
        self._means[forgotten % self.capacity] = np.nan
        self._counts[forgotten % self.capacity] = 0
        self._recent[forgotten[-len(self._recent) :] % len(self._recent)] = np.nan
        self._newest = step

    def _oldest_recent(self, newest: int) -> int:
        """Return the oldest interval whose slots are all recent when `newest` is the newest step."""
        return -((len(self._recent) - 1 - newest) // self.grid.steps)

    def _recent_slots(self, interval: int) -> Floats:
        if self._newest is None:
            return np.empty(0)
        first = interval * self.grid.steps
        places = np.arange(first, min(first + self.grid.steps, self._newest + 1)) % len(self._recent)
        found = self._recent[places].astype(np.float64).ravel()
        return found[~np.isnan(found)]

    def _sum_up(self, first: int, end: int) -> None:
        """Keep the quantiles of the intervals from `first`, before those up to `end` are no longer recent."""
        for interval in range(max(first, end - WINDOW), end):
            slots = self._recent_slots(interval)
            self._sums[interval % WINDOW] = summed(slots) if slots.size else np.nan

    def _move_mean(self, place: int, users: float) -> None:
        count = int(self._counts[place]) + 1
        mean = float(self._means[place]) if count > 1 else 0.0
        self._means[place] = mean + (users - mean) / count
        self._counts[place] = count

    def _settle(self) -> None:
        """Take the means of the recent steps that changed."""
        for step in self._changed:
            slots = self._recent[step % len(self._recent)]
            known = slots[~np.isnan(slots)]
            self._means[step % self.capacity] = known.mean(dtype=np.float64)
            self._counts[step % self.capacity] = known.size
        self._changed.clear()


def summed(slots: Floats) -> Floats:
    """Return the quantiles of `slots` at `SHARES`, no more exact than they are held."""
    return np.quantile(slots, SHARES, method="hazen").astype(np.float32).astype(np.float64)


def _averaged(means: Means, grid: Grid, begin: int, end: int) -> Floats:
    """Return the means of steps `begin` to `end` of `grid`: traffic is spread evenly over each known step."""
    source_us = means.grid.step_us
    edges_us = np.arange(begin, end + 1) * grid.step_us - means.first * source_us
    at_us = np.arange(len(means.values) + 1) * source_us
    users = np.diff(np.interp(edges_us, at_us, means.sums * source_us))
    time_us = np.diff(np.interp(edges_us, at_us, means.counts * source_us))
    return np.where(2.0 * time_us >= grid.step_us, users / np.maximum(time_us, 1.0), np.nan)
