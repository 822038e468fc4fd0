"""One slice as the forecaster follows it: its history, its outlook, and which intervals have a forecast."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
from msgspec.structs import replace

from microopt.errors import ConfigError
from microopt.messages import Forecast, Telemetry, Traffic
from microopt.specs import SliceSpec
from microopt_forecaster import models
from microopt_forecaster.calibration import WINDOW
from microopt_forecaster.candidates import Candidates
from microopt_forecaster.day_types import DayTypes
from microopt_forecaster.grid import Grid
from microopt_forecaster.history import History
from microopt_forecaster.outlook import Outlook
from microopt_forecaster.prediction import Prediction, raised
from microopt_forecaster.schedule import Schedule
from microopt_forecaster.settings import ForecasterSettings
from microopt_forecaster.steps import Floats, Steps

AUTO: Final = "auto"
SETTLED_SLOTS: Final = 2
"""Slots after which a slot is told: the collector waits for late samples."""
EXTRA_INTERVALS: Final = 2  # beyond the whole seasons of the horizon, so that the oldest season is complete


@dataclass(frozen=True)
class Snapshot:
    """A slice's history at one moment, to be read in another thread."""

    steps: Steps
    slots: dict[int, Floats | None]
    complete: int
    """The last interval of which everything was heard."""


@dataclass(frozen=True)
class Expected:
    """The traffic of an interval: `raised_from` is the mean that was expected before it was raised."""

    traffic: Traffic
    prediction: Prediction
    raised_from: float | None


class FollowedSlice:
    """What is known of a slice's traffic, and what is expected of it; it knows no bus."""

    def __init__(self, spec: SliceSpec, settings: ForecasterSettings) -> None:
        self.slice = spec.slice
        self.sequence = 0
        """The last message of the telemetry stream that is in the history."""
        self.settings = settings
        self.days = DayTypes(settings.timezone, settings.holidays)
        self.outlook: Outlook
        self.heard_until_s = 0.0
        self.observed_until_s = 0.0
        """Where the last slot ended of which the users are known; 0 for none."""
        self._follow(spec)
        self.history = History(self.grid, self.horizon_s)

    def change(self, spec: SliceSpec) -> None:
        """Follow `spec` from now on; what is known is kept, on the new grid."""
        former_grid, former_schedule = self.grid, self.schedule
        former_model, former_lead_s = self.spec.forecast_model, former_schedule.lead_s
        outlook = self.outlook
        self._follow(spec)
        if former_schedule.interval_s == self.schedule.interval_s:
            self.schedule.resume(former_schedule)
        if self.grid != former_grid:
            self.history = self.history.resampled(self.grid, self.horizon_s)
        elif (former_model, former_lead_s) == (spec.forecast_model, self.schedule.lead_s):
            self.outlook = outlook

    def note(self, telemetry: Telemetry, sequence: int) -> None:
        """Take one slot; slots of another length are of a former spec."""
        if sequence <= self.sequence:
            return  # it is in the history already
        self.sequence = sequence
        if telemetry.slot_s == self.spec.slot_s:
            time_s = telemetry.time.timestamp()
            self.heard_until_s = max(self.heard_until_s, time_s + telemetry.slot_s)
            if telemetry.users is not None:
                self.observed_until_s = max(self.observed_until_s, time_s + telemetry.slot_s)
            self.history.add(time_s, telemetry.users)

    def resume_after(self, last: Forecast | None) -> None:
        """Begin after the interval of the `last` forecast."""
        if last is not None and timedelta(seconds=self.spec.interval_s) == timedelta(
            seconds=last.interval.duration_s
        ):
            self.schedule.done(self.schedule.number(last.interval.start.timestamp()))

    def restore(self, history: History, sequence: int, heard_until_s: float) -> None:
        """Take what was known when a checkpoint was made."""
        self.history, self.sequence, self.heard_until_s = history, sequence, heard_until_s
        self.observed_until_s = heard_until_s

    def spec_with(self, slot_s: float, interval_s: float, season_s: float) -> SliceSpec:
        """Return the spec with other times."""
        return replace(self.spec, slot_s=slot_s, interval_s=interval_s, season_s=season_s, lead_s=None)

    def is_fresh(self, interval: int, now_s: float) -> bool:
        """Return whether all was heard that the forecast of `interval` rests on, or was waited for long enough."""
        start_s = interval * self.spec.interval_s
        needed_s = (interval * self.grid.steps - self.outlook.candidates.gap) * self.grid.step_us / 1e6
        return self.heard_until_s >= needed_s - self.spec.slot_s / 2 or now_s >= start_s - self.schedule.lead_s / 2

    def snapshot(self) -> Snapshot:
        """Return the history as it is now."""
        complete = self.grid.interval(self.heard_until_s) - 1
        through = self.outlook.through
        first = complete - WINDOW if through is None else max(through, complete - WINDOW)
        slots = {i: self.history.slots(i) for i in range(min(first, complete - 1) + 1, complete + 2)}
        return Snapshot(self.history.steps(), slots, complete)

    def expect(self, interval: int, snapshot: Snapshot) -> Expected | None:
        """Return the traffic that is expected in `interval`, or None when too little is known."""
        self.outlook.catch_up(snapshot.steps, snapshot.slots.get, min(snapshot.complete, interval - 1))
        prediction = self.outlook.predict(snapshot.steps, interval)
        if prediction is None:
            return None
        traffic, least = prediction.traffic(), self._least(interval - 1, snapshot, prediction)
        if least <= traffic.mean:
            return Expected(traffic, prediction, None)
        return Expected(raised(traffic, least), prediction, traffic.mean)

    def _least(self, current: int, snapshot: Snapshot, following: Prediction) -> float:
        """Return the mean users that the interval after `current` is to be expected to have at least.

        Where the running interval has more than the band of its forecast, the next one is expected to exceed its
        own in the same proportion, but not beyond what is observed.
        """
        slots = snapshot.slots.get(current)
        if (
            current <= snapshot.complete
            or slots is None
            or 2 * slots.size < self.grid.steps * self.grid.step_slots
        ):
            return 0.0
        observed = float(np.mean(slots))
        if observed <= following.traffic().mean:
            return 0.0
        said = self.outlook.predict(snapshot.steps, current)  # anew: a restart must not change what follows
        if said is None or not said.is_exceeded(observed):
            return 0.0
        return min(observed, following.median * observed / said.median) if said.median > 0.0 else observed

    def _follow(self, spec: SliceSpec) -> None:
        """Set everything that follows from `spec` alone."""
        names, fixed = candidate_names(spec.forecast_model, self.settings.models)
        self.spec = spec
        self.grid = Grid(spec.slot_s, spec.interval_s, spec.season_s)
        self.schedule = Schedule(spec.interval_s, spec.slot_s if spec.lead_s is None else spec.lead_s)
        gap = self.grid.steps_in(self.schedule.lead_s + SETTLED_SLOTS * spec.slot_s)
        candidates = Candidates(
            models.make(names, self.days), self.grid, gap, shift=zlib.crc32(spec.slice.encode())
        )
        self.outlook = Outlook(candidates, self.grid.season, fixed)

    @property
    def horizon_s(self) -> float:
        """Return how far back the history reaches."""
        return self.settings.horizon_seasons * self.spec.season_s + EXTRA_INTERVALS * self.spec.interval_s


def candidate_names(wanted: str, known: Sequence[str]) -> tuple[tuple[str, ...], int | None]:
    """Return the models that forecast a slice, and the index of the one that is believed if it is named.

    Raises:
        ConfigError: the slice names a model that is not there.
    """
    if wanted == AUTO:
        return tuple(known), None
    if wanted not in models.MODELS:
        raise ConfigError(f"forecast_model {wanted!r}: known are {AUTO}, {', '.join(models.MODELS)}")
    return tuple(dict.fromkeys(("seasonal-naive", wanted))), 0 if wanted == "seasonal-naive" else 1
