"""One slice as the forecaster follows it."""

from datetime import datetime, timedelta
from typing import Final

from microopt.messages import Forecast, Telemetry
from microopt.specs import SliceSpec
from microopt_forecaster.history import History
from microopt_forecaster.models.base import Model
from microopt_forecaster.schedule import Schedule

EXTRA_INTERVALS: Final = 2  # beyond the whole seasons of the horizon, so that the oldest season is complete


class FollowedSlice:
    """What is known of a slice's traffic, and which of its intervals have a forecast."""

    def __init__(self, spec: SliceSpec, model: Model, horizon_seasons: int) -> None:
        self.slice = spec.slice
        self.spec = spec
        self.model = model
        self.history = History(spec.slot_s, _horizon_s(spec, horizon_seasons))
        self.schedule = _schedule(spec)
        self.prepared = False
        """Whether the bus was asked where the slice's telemetry ends and which forecast was its last."""
        self._read_until: datetime | None = None
        self._newest: datetime | None = None

    def change(self, spec: SliceSpec, model: Model, horizon_seasons: int) -> None:
        """Follow `spec` from now on; what is known is kept, unless the slots are others."""
        same_slots = spec.slot_s == self.spec.slot_s
        horizon_s = _horizon_s(spec, horizon_seasons)
        self.history = self.history.resized(horizon_s) if same_slots else History(spec.slot_s, horizon_s)
        schedule = _schedule(spec)
        if schedule.interval_s == self.schedule.interval_s:
            schedule.resume(self.schedule)
        else:
            self.prepared = False
        self.spec, self.model, self.schedule = spec, model, schedule

    def note(self, telemetry: Telemetry) -> None:
        """Take one slot; slots of another length are of a former spec."""
        self._newest = max(telemetry.time, self._newest or telemetry.time)
        if telemetry.slot_s == self.spec.slot_s:
            self.history.add(telemetry.time.timestamp(), telemetry.users)

    def prepare(self, read_until: datetime | None, last: Forecast | None) -> None:
        """Begin after the telemetry up to `read_until` was read, and after the interval of the `last` forecast."""
        self._read_until = read_until
        if last is not None and timedelta(seconds=self.spec.interval_s) == timedelta(
            seconds=last.interval.duration_s
        ):
            self.schedule.done(self.schedule.number(last.interval.start.timestamp()))
        self.prepared = True

    @property
    def is_read(self) -> bool:
        """Return whether all telemetry that was stored when the slice was prepared has been handled."""
        if not self.prepared:
            return False
        return self._read_until is None or (self._newest is not None and self._newest >= self._read_until)


def _horizon_s(spec: SliceSpec, seasons: int) -> float:
    return seasons * spec.season_s + EXTRA_INTERVALS * spec.interval_s


def _schedule(spec: SliceSpec) -> Schedule:
    return Schedule(spec.interval_s, spec.slot_s if spec.lead_s is None else spec.lead_s)
