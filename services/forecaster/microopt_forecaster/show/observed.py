"""The users that telemetry told, slot by slot, of one slice."""

import math
from datetime import UTC, datetime, timedelta

from microopt.messages import Telemetry
from microopt.specs import SliceSpec
from microopt_forecaster.grid import Grid
from microopt_forecaster.schedule import Schedule


class Observed:
    """Known slots by interval; the latest word on a slot counts, and one that tells nothing takes nothing back."""

    def __init__(self, spec: SliceSpec) -> None:
        self.spec = spec
        self.schedule = Schedule(spec.interval_s, lead_s=0.0)
        self.heard_until: datetime | None = None
        self.other_slots = 0
        """Slots of another length: of a former spec."""
        self._slot_us = Grid(spec.slot_s, spec.interval_s, spec.season_s).slot_us
        self._known: dict[int, dict[int, float]] = {}

    @property
    def slots(self) -> int:
        """Return how many slots begin in an interval, at most."""
        return -(-round(self.spec.interval_s * 1e6) // self._slot_us)

    def note(self, slot: Telemetry) -> None:
        """Take one slot."""
        if slot.slot_s != self.spec.slot_s:
            self.other_slots += 1
            return
        end = slot.time.astimezone(UTC) + timedelta(seconds=slot.slot_s)
        self.heard_until = max(self.heard_until or end, end)
        if slot.users is not None:
            time_s = slot.time.timestamp()
            known = self._known.setdefault(self.schedule.number(time_s), {})
            known[round(time_s * 1e6) // self._slot_us] = slot.users

    def known(self, interval: int) -> int:
        """Return how many slots of `interval` are known."""
        return len(self._known.get(interval, ()))

    def mean(self, interval: int) -> float | None:
        """Return the mean users of the known slots of `interval`, or None when there are none."""
        users = self._known.get(interval)
        return math.fsum(users.values()) / len(users) if users else None
