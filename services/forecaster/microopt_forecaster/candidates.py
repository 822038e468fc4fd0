"""The levels that all candidate models expect, each fitted anew once a season."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np

from microopt_forecaster.grid import Grid
from microopt_forecaster.models.base import Fitted, Model
from microopt_forecaster.steps import Floats, Ints, Steps

MAX_BETWEEN_FITS: Final = 288
WITHOUT_SEASON: Final = 24
"""Intervals between two fits."""
FITS_KEPT: Final = 15
MOST_WIDENED: Final = 10.0
_TINY: Final = 1e-9


class Candidates:
    """Models and their fits; a fit rests on what is known of the time before its term, whoever makes it and when.

    A term is the intervals that one fit serves; `shift` moves the terms of different slices apart, so that not all
    are fitted at once. What becomes known late makes fits anew. `gap` is how many steps before an interval
    its forecast is made.
    """

    def __init__(self, models: Sequence[Model], grid: Grid, gap: int, shift: int = 0) -> None:
        self.models = tuple(models)
        self.gap = gap
        self._grid = grid
        self._term = min(grid.season, MAX_BETWEEN_FITS) if grid.season > 1 else WITHOUT_SEASON
        self._shift = shift % self._term
        self._fits: OrderedDict[tuple[int, int, int], Fitted | None] = OrderedDict()
        self._offsets: OrderedDict[int, float] = OrderedDict()
        self._known: dict[int, tuple[int, int]] = {}
        """What the fits and the offset of a term rest on."""

    def levels(self, steps: Steps, intervals: Ints) -> tuple[Floats, Floats]:
        """Return each model's level of each interval, shape (n, models), and its offset, shape (n,)."""
        found = np.full((len(intervals), len(self.models)), np.nan)
        offsets = np.empty(len(intervals))
        terms, gaps = (intervals + self._shift) // self._term, self._gaps(steps, intervals)
        for term in np.unique(terms):
            self._forget_unless_same(steps, int(term))
            offsets[terms == term] = self.offset(steps, int(term))
            for gap in np.unique(gaps[terms == term]):
                rows = np.flatnonzero((terms == term) & (gaps == gap))
                found[rows] = self._of_term(steps, int(term), int(gap), intervals[rows])
        return found, offsets

    def term(self, interval: int) -> int:
        """Return the term that `interval` belongs to."""
        return (interval + self._shift) // self._term

    def offset(self, steps: Steps, term: int) -> float:
        """Return the offset of a term: of the seasons before it."""
        if term not in self._offsets:
            self._offsets[term] = steps.before(self._begin(term)).usual_offset()
            while len(self._offsets) > FITS_KEPT:
                self._offsets.popitem(last=False)
        return self._offsets[term]

    def is_blind(self, steps: Steps, interval: int) -> bool:
        """Return whether `interval` begins longer after what is known than usual."""
        return int(self._gaps(steps, np.array([interval]))[0]) > self.gap

    def widening(self, steps: Steps, interval: int, model: int) -> float:
        """Return by how much a model errs more because `interval` begins longer after what is known than usual."""
        if not self.is_blind(steps, interval):
            return 1.0
        gap = int(self._gaps(steps, np.array([interval]))[0])
        term = self.term(interval)
        begin = self._begin(term) // self._grid.steps
        past = np.arange(begin - 2 * self._term, begin)
        actual = steps.taking(self.offset(steps, term)).levels(past)
        usual, now = (np.abs(self._of_term(steps, term, g, past)[:, model] - actual) for g in (self.gap, gap))
        both = ~np.isnan(usual) & ~np.isnan(now)
        if not both.any():
            return 1.0
        return float(np.clip(now[both].mean() / max(float(usual[both].mean()), _TINY), 1.0, MOST_WIDENED))

    def _forget_unless_same(self, steps: Steps, term: int) -> None:
        """Forget a term's fits where telemetry of the time before it came after they were made."""
        means, begin = steps.means, self._begin(term)
        end, season = int(means.place(np.array(begin))), self._grid.season * self._grid.steps
        before = int(np.searchsorted(means.known, begin))
        # Of the last season only: the oldest steps leave the history one by one.
        known = (
            int(means.known[before - 1]) if before else -1,
            int(means.counts[end] - means.counts[max(0, end - season)]),
        )
        if self._known.get(term, known) != known:
            self._offsets.pop(term, None)
            for key in [key for key in self._fits if key[0] == term]:
                del self._fits[key]
        self._known[term] = known
        self._known = {kept: said for kept, said in self._known.items() if kept > term - FITS_KEPT}

    def _begin(self, term: int) -> int:
        """Return the first step that is not known to the fit of a term."""
        return (term * self._term - self._shift) * self._grid.steps - self.gap

    def _gaps(self, steps: Steps, intervals: Ints) -> Ints:
        """Return how many steps lie between what is known and each interval.

        A few missing ones are filled; more than an interval of them is a longer way to look ahead.
        """
        known = steps.means.known
        begin = intervals * self._grid.steps
        place = np.searchsorted(known, begin - self.gap) - 1
        last = np.where(place >= 0, known[np.maximum(place, 0)] if known.size else 0, begin - self.gap - 1)
        missing = begin - self.gap - last - 1
        whole = -(-missing // self._grid.steps) * self._grid.steps
        return np.asarray(self.gap + np.where(missing < self._grid.steps, 0, whole), dtype=np.int64)

    def _of_term(self, steps: Steps, term: int, gap: int, intervals: Ints) -> Floats:
        own = steps.taking(self.offset(steps, term))
        columns = []
        for index in range(len(self.models)):
            fitted = self._fitted(own, term, index, gap)
            columns.append(np.full(len(intervals), np.nan) if fitted is None else fitted.levels(own, intervals))
        return np.clip(np.column_stack(columns), np.log(own.offset), own.before(self._begin(term)).highest_level())

    def _fitted(self, steps: Steps, term: int, index: int, gap: int) -> Fitted | None:
        key = (term, index, gap)
        if key not in self._fits:
            self._fits[key] = self.models[index].fit(steps.before(self._begin(term)), gap)
            while len(self._fits) > FITS_KEPT:
                self._fits.popitem(last=False)
        return self._fits[key]
