"""What a slice's traffic will be: the candidates' levels, the errors around them, and who is believed."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from microopt_forecaster.calibration import WINDOW, Calibration
from microopt_forecaster.candidates import Candidates
from microopt_forecaster.choice import trust
from microopt_forecaster.history import SLOTS, summed
from microopt_forecaster.prediction import Prediction
from microopt_forecaster.records import Record, errors
from microopt_forecaster.steps import Floats, Steps

SlotsOf = Callable[[int], Floats | None]

NAMED: Final = 0.3
"""The weight from which on a model is named in a forecast."""
LEAST_COUNT: Final = 2
"""Errors seen before anything is claimed; three consecutive intervals have two."""


class Outlook:
    """The fold over a slice's intervals: after each, levels are compared with what came.

    It keeps no time and no history of its own. `candidates` say the levels; `fixed` is the index of the model that
    is believed whatever the others do, with `None` each is believed as far as it did well.
    """

    def __init__(self, candidates: Candidates, season: int, fixed: int | None = None) -> None:
        self.candidates = candidates
        self.through: int | None = None
        self.records: deque[Record] = deque(maxlen=WINDOW)
        self.mean = Calibration(season)
        self.slot = Calibration(season, width=SLOTS)
        self._fixed = fixed
        self._said: dict[int, tuple[Floats, float]] = {}

    def catch_up(self, steps: Steps, slots_of: SlotsOf, last: int) -> None:
        """Take all intervals up to `last`, of which all that will be known is known."""
        begin = last - WINDOW + 1
        if self.through is not None:
            begin = max(begin, self.through + 1)
        begin = max(begin, steps.first // steps.grid.steps)
        if begin > last or steps.end == steps.first:
            return
        for interval, levels, offset in self._levels(steps, range(begin, last + 1)):
            self._take(interval, levels, steps.taking(offset), slots_of)
        self.through = last
        self._said = {interval: said for interval, said in self._said.items() if interval > last}

    def predict(self, steps: Steps, interval: int) -> Prediction | None:
        """Return what is expected in `interval`, or None when too little is known."""
        if self.slot.count < LEAST_COUNT:
            return None
        [levels], [offset] = self.candidates.levels(steps, np.array([interval]))
        trusted = self._trusted(levels)
        if not trusted.any():
            return None
        width = self.candidates.widening(steps, interval, int(trusted.argmax()))
        if not self.candidates.is_blind(steps, interval):  # the same will be found when the interval is over
            self._said[interval] = (levels, float(offset))
        level, own = _together(levels, trusted), steps.taking(float(offset))
        return Prediction(
            model=self._names(trusted),
            slot=_users(level + width * self.slot.quantiles(interval), own),
            mean=_users(level + width * self.mean.quantiles(interval), own),
            realised=(self.slot.realised(), self.mean.realised()),
        )

    def restore(self, through: int | None, records: list[Record], slot: Calibration, mean: Calibration) -> None:
        """Go on from a state that was kept."""
        self.through, self.slot, self.mean = through, slot, mean
        self.records = deque(records, maxlen=WINDOW)
        self._said.clear()

    def _levels(self, steps: Steps, intervals: range) -> Iterator[tuple[int, Floats, float]]:
        """Yield each interval with its levels and offset, as they were said or as they are found now."""
        new = [interval for interval in intervals if interval not in self._said]
        found = dict(self._said)
        if new:
            levels, offsets = self.candidates.levels(steps, np.array(new))
            found.update({n: (row, float(offset)) for n, row, offset in zip(new, levels, offsets, strict=True)})
        for interval in intervals:
            yield interval, *found[interval]

    def _take(self, interval: int, levels: Floats, steps: Steps, slots_of: SlotsOf) -> None:
        actual = float(steps.levels(np.array([interval]))[0])
        if np.isnan(actual):
            return
        trusted = self._trusted(levels)
        spread = _spread(steps, slots_of(interval), interval) - actual
        self.records.append(Record(interval, levels, actual, spread))
        if trusted.any():
            error = actual - _together(levels, trusted)
            self.mean.update(interval, np.array([error]))
            self.slot.update(interval, error + spread)

    def _trusted(self, levels: Floats) -> Floats:
        """Return the weights of the candidates among those that say something; the first where none is trusted."""
        said = ~np.isnan(levels)
        count = len(levels)
        weights = trust(errors(self.records, count)) if self._fixed is None else np.eye(count)[self._fixed]
        weights = np.where(said, weights, 0.0)
        if weights.any():
            return np.asarray(weights / weights.sum(), dtype=np.float64)
        return np.eye(count)[int(said.argmax())] if said.any() else np.zeros(count)

    def _names(self, trusted: Floats) -> str:
        """Return the models that count most, in the order of the candidates."""
        counting = [int(n) for n in np.flatnonzero(trusted >= NAMED)] or [int(trusted.argmax())]
        return "+".join(self.candidates.models[n].name for n in counting)


def _together(levels: Floats, weights: Floats) -> float:
    return float(np.where(weights > 0.0, weights * np.nan_to_num(levels), 0.0).sum())


def _users(levels: Floats, steps: Steps) -> Floats:
    return np.maximum(np.exp(np.minimum(levels, steps.highest_level())) - steps.offset, 0.0)


def _spread(steps: Steps, slots: Floats | None, interval: int) -> Floats:
    """Return `SLOTS` quantiles of log(users + offset) of the interval's slots, or of its steps."""
    if slots is None or not slots.size:
        first = interval * steps.grid.steps - steps.first
        slots = steps.means.values[max(0, first) : first + steps.grid.steps]
        slots = slots[~np.isnan(slots)]
    return np.log(summed(slots) + steps.offset)
