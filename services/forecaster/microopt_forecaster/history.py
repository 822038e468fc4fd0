"""The traffic of one slice, slot by slot, as far back as a model looks."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.float64]

MAX_SLOTS: Final = 500_000
"""4 MB a slice; a horizon of more slots than this is cut to its newest ones."""


class History:
    """A ring of the users in each slot; slot n begins n · `slot_s` after the Unix epoch, NaN is unknown.

    Slots may come in any order; the latest word on a slot is the one that counts.
    """

    def __init__(self, slot_s: float, horizon_s: float) -> None:
        self.slot_s = slot_s
        self.capacity = min(MAX_SLOTS, max(1, math.ceil(horizon_s / slot_s)))
        self._slot_us = max(1, round(slot_s * 1e6))  # whole microseconds: n * 0.1 s must not fall into slot n - 1
        self._users = np.full(self.capacity, np.nan)
        self._newest: int | None = None

    def __len__(self) -> int:
        """Return the number of slots that are known."""
        return int(np.count_nonzero(~np.isnan(self._users)))

    def slot(self, time_s: float) -> int:
        """Return the number of the slot that holds `time_s`, in seconds since the Unix epoch."""
        return round(time_s * 1e6) // self._slot_us

    def slots(self, duration_s: float) -> int:
        """Return how many slots `duration_s` is, at least one."""
        return max(1, round(duration_s / self.slot_s))

    def add(self, time_s: float, users: float | None) -> None:
        """Note the users of the slot that holds `time_s`; `None`, and slots beyond the horizon, are ignored."""
        if users is None:
            return
        slot = self.slot(time_s)
        if self._newest is None:
            self._newest = slot
        if slot <= self._newest - self.capacity:
            return
        if slot > self._newest:
            forgotten = np.arange(self._newest + 1, min(slot, self._newest + self.capacity) + 1)
            self._users[forgotten % self.capacity] = np.nan
            self._newest = slot
        self._users[slot % self.capacity] = users

    def window(self, first: int, count: int) -> Slots:
        """Return the users of the `count` slots from slot `first`, shape (count,), NaN where unknown."""
        if self._newest is None:
            return np.full(count, np.nan)
        slots = np.arange(first, first + count)
        held = (slots <= self._newest) & (slots > self._newest - self.capacity)
        return np.where(held, self._users[slots % self.capacity], np.nan)

    def resized(self, horizon_s: float) -> "History":
        """Return a copy with another horizon."""
        other = History(self.slot_s, horizon_s)
        if self._newest is not None:
            other._newest = self._newest
            kept = np.arange(self._newest - other.capacity + 1, self._newest + 1)
            other._users[kept % other.capacity] = self.window(int(kept[0]), other.capacity)
        return other

    def copy(self) -> "History":
        """Return a copy that may be read in another thread."""
        return self.resized(self.capacity * self.slot_s)
