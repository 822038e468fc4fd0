"""Whether a slice model predicts what is measured now as well as it did in validation."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from microopt_optimizer.tuner.fresh import Row

CAP: Final = 20.0
"""Nats above the reference that a single slot counts for at most: one wild slot is no drift."""


class Window:
    """The latest rows of one model and their NLLs under the version in force.

    The model has drifted when the mean NLL of the latest `judged` rows was above `reference` + `margin` for
    `samples` rows in a row. Without a reference (None) nothing is judged.
    """

    def __init__(self, reference: float | None, *, margin: float, samples: int, judged: int, kept: int) -> None:
        self.reference = reference
        self._margin = margin
        self._samples = samples
        self._judged = judged
        self._rows: deque[Row] = deque(maxlen=kept)
        self._nlls: deque[float] = deque(maxlen=kept)
        self._latest: deque[float] = deque(maxlen=judged)
        self._total = 0.0
        self._above = 0
        self.seen = 0
        """Rows that were ever added."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Row]:
        """Return the rows that are kept, oldest first."""
        return list(self._rows)

    @property
    def fresh_nll(self) -> float | None:
        """Return the mean NLL of the latest rows, None before there are any."""
        return sum(self._latest) / len(self._latest) if self._latest else None

    @property
    def has_drifted(self) -> bool:
        """Return whether the mean NLL was too high for long enough."""
        return self._above >= self._samples

    @property
    def since_drift(self) -> list[Row]:
        """Return the rows since the drift most likely began: those whose NLLs exceed the reference most in sum."""
        if self.reference is None:
            return []
        begin = most_excessive(list(self._nlls), self.reference + 0.5 * self._margin)
        return self.rows[begin:]

    def add(self, rows: Iterable[Row], nlls: Iterable[float]) -> None:
        """Take rows, in the order of time, with their NLLs."""
        for row, nll in zip(rows, nlls, strict=True):
            self.seen += 1
            self._rows.append(row)
            limited = nll if self.reference is None else min(nll, self.reference + CAP)
            self._nlls.append(limited)
            self._total += limited - (self._latest[0] if len(self._latest) == self._judged else 0.0)
            self._latest.append(limited)
            self._above = self._above + 1 if self._is_above() else 0

    def _is_above(self) -> bool:
        if self.reference is None or len(self._latest) < self._judged:
            return False
        return self._total / self._judged > self.reference + self._margin


def most_excessive(values: Sequence[float], level: float) -> int:
    """Return where the suffix begins whose sum above `level` is greatest; the length where no suffix is above."""
    best, begin, total = 0.0, len(values), 0.0
    for place in range(len(values) - 1, -1, -1):
        total += values[place] - level
        if total > best:
            best, begin = total, place
    return begin
