"""What a slice's traffic will be: the candidates' levels, the errors around them, and who is believed."""

from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from microopt_forecaster.calibration import WINDOW, Calibration
from microopt_forecaster.candidates import Candidates
from microopt_forecaster.choice import choose
from microopt_forecaster.prediction import Prediction
from microopt_forecaster.records import SLOTS, Record, errors
from microopt_forecaster.steps import Floats, Steps

SlotsOf = Callable[[int], Floats | None]

REVIEW_EVERY: Final = 6
"""Intervals between two looks at who does best."""
LEAST_COUNT: Final = 2
"""Errors seen before anything is claimed; three consecutive intervals have two."""


class Outlook:
    """The fold over a slice's intervals: after each, levels are compared with what came.

    It keeps no time and no history of its own. `candidates` say the levels; `fixed` is the index of the model that
    is believed whatever the others do, `None` lets the best one be.
    """

    def __init__(self, candidates: Candidates, season: int, fixed: int | None = None) -> None:
        self.candidates = candidates
        self.through: int | None = None
        self.believed = fixed or 0
        self.records: deque[Record] = deque(maxlen=WINDOW)
        self._season = season
        self._fixed = fixed
        self._begin_calibration()

    def catch_up(self, steps: Steps, slots_of: SlotsOf, last: int) -> None:
        """Take all intervals up to `last`, of which all that will be known is known."""
        begin = last - WINDOW + 1
        if self.through is not None:
            begin = max(begin, self.through + 1)
        begin = max(begin, steps.first // steps.grid.steps)
        if begin > last or steps.end == steps.first:
            return
        intervals = np.arange(begin, last + 1)
        levels, offsets = self.candidates.levels(steps, intervals)
        for interval, level, offset in zip(intervals.tolist(), levels, offsets, strict=True):
            self._take(interval, level, steps.taking(float(offset)), slots_of)
        self.through = last

    def predict(self, steps: Steps, interval: int) -> Prediction | None:
        """Return what is expected in `interval`, or None when too little is known."""
        if self.slot.count < LEAST_COUNT:
            return None
        levels, offsets = self.candidates.levels(steps, np.array([interval]))
        model = self._who(levels[0])
        if model is None:
            return None
        width = self.candidates.widening(steps, interval, model)
        level, own = float(levels[0, model]), steps.taking(float(offsets[0]))
        return Prediction(
            model=self.candidates.models[model].name,
            slot=_users(level + width * self.slot.quantiles(interval), own),
            mean=_users(level + width * self.mean.quantiles(interval), own),
            realised=(self.slot.realised(), self.mean.realised()),
        )

    def restore(
        self, through: int | None, believed: int, records: list[Record], slot: Calibration, mean: Calibration
    ) -> None:
        """Go on from a state that was kept."""
        self.through, self.slot, self.mean = through, slot, mean
        self.records = deque(records, maxlen=WINDOW)
        self.believed = believed if self._fixed is None else self._fixed

    def _take(self, interval: int, levels: Floats, steps: Steps, slots_of: SlotsOf) -> None:
        actual = float(steps.levels(np.array([interval]))[0])
        if np.isnan(actual):
            return
        record = Record(interval, levels, actual, _spread(steps, slots_of(interval), interval) - actual)
        self.records.append(record)
        self._calibrate(record)
        if self._fixed is None and interval % REVIEW_EVERY == 0:
            self._believe(choose(errors(self.records, len(levels)), self.believed))

    def _calibrate(self, record: Record) -> None:
        error = record.actual - record.levels[self.believed]
        if not np.isnan(error):
            self.mean.update(record.interval, np.array([error]))
            self.slot.update(record.interval, error + record.spread)

    def _believe(self, model: int) -> None:
        """Believe another model; what its errors were is what it would have been judged by."""
        if model == self.believed:
            return
        self.believed = model
        self._begin_calibration()
        for record in self.records:
            self._calibrate(record)

    def _begin_calibration(self) -> None:
        self.mean = Calibration(self._season)
        self.slot = Calibration(self._season, width=SLOTS)

    def _who(self, levels: Floats) -> int | None:
        """Return the model that is believed, or the first that says anything when it does not."""
        if not np.isnan(levels[self.believed]):
            return self.believed
        said = np.flatnonzero(~np.isnan(levels))
        return int(said[0]) if said.size else None


def _users(levels: Floats, steps: Steps) -> Floats:
    return np.maximum(np.exp(np.minimum(levels, steps.highest_level())) - steps.offset, 0.0)


def _spread(steps: Steps, slots: Floats | None, interval: int) -> Floats:
    """Return `SLOTS` quantiles of log(users + offset) of the interval's slots, or of its steps."""
    if slots is None or not slots.size:
        first = interval * steps.grid.steps - steps.first
        slots = steps.means.values[max(0, first) : first + steps.grid.steps]
        slots = slots[~np.isnan(slots)]
    at = (np.arange(SLOTS) + 0.5) / SLOTS
    return np.quantile(np.log(slots + steps.offset), at, method="hazen")
