"""Measurements into the slots of one slice: one `Telemetry` for each slot, and for each gap."""

import math
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from microopt.messages import Telemetry
from microopt_collector.means import SlotMeans
from microopt_collector.sources.base import Measurement

Verdict = Literal["ok", "duplicate", "late"]

MAX_MISSING_RUN: Final = 60
"""After so many empty slots in a row a slice is silent: nobody learns anything from one more."""
MAX_OPEN_SLOTS: Final = 600
"""That wait, beyond the lateness, for a bus that is away; then the oldest is given up, and will be missing."""
SET_BACK_SLOTS: Final = 5
"""How far behind itself, beyond the lateness, a clock must be to count as set back."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SlotBook:
    """The open slots of one slice; it keeps no time of its own, `now_s` is seconds since the Unix epoch.

    Slot n begins n · `slot_s` after the epoch. It closes `lateness_slots` slots after its end, by this clock
    alone: a source whose clock is fast must make no other late. What comes for it afterwards is late. Where that
    clock is set back, the book begins anew: otherwise all would be late until the clock caught up.
    """

    def __init__(self, slice: str, slot_s: float, lateness_slots: float) -> None:
        self.slice = slice
        self.slot_s = slot_s
        self._slot_us = max(1, _us(slot_s))  # whole microseconds: n * 0.1 s must not fall into slot n - 1
        self._lateness_us = _us(slot_s * lateness_slots)
        self._max_open = MAX_OPEN_SLOTS + math.ceil(lateness_slots)
        self._set_back_us = self._lateness_us + SET_BACK_SLOTS * self._slot_us
        self._open: dict[int, SlotMeans] = {}
        self._next: int | None = None  # the first slot that was not closed; None before the first was
        self._missing_run = 0
        self._latest_us = 0  # that `now_s` ever was

    def add(self, measurement: Measurement, now_s: float) -> Verdict:
        """Put `measurement` into its slot, unless it is there already or the slot is closed."""
        time_us = _us(measurement.time_s)
        slot = time_us // self._slot_us
        if slot < self._closed_before(now_s) or (self._next is not None and slot < self._next):
            return "late"
        means = self._open.get(slot)
        if means is None:
            if len(self._open) >= self._max_open:
                del self._open[min(self._open)]
            means = self._open[slot] = SlotMeans()
        return "ok" if means.add(measurement, time_us) else "duplicate"

    def close(self, now_s: float) -> list[Telemetry]:
        """Return the telemetry of the slots that closed since the last call, in order, without allocation.

        An empty slot gives one `missing` telemetry, at most `MAX_MISSING_RUN` in a row.
        """
        closed: list[Telemetry] = []
        bound = self._closed_before(now_s)
        if self._next is None and min(self._open, default=bound) < bound:
            self._next = min(self._open)
        while self._next is not None and self._next < bound:
            means = self._open.pop(self._next, None)
            if means is None and self._missing_run >= MAX_MISSING_RUN:
                self._next = min(bound, min(self._open, default=bound))
                continue
            self._missing_run = 0 if means else self._missing_run + 1
            closed.append(self._telemetry(self._next, means))
            self._next += 1
        return closed

    def _closed_before(self, now_s: float) -> int:
        now_us = _us(now_s)
        if now_us > self._latest_us:
            self._latest_us = now_us
        elif now_us < self._latest_us - self._set_back_us:
            self._begin_anew(now_us)
        return (now_us - self._lateness_us) // self._slot_us

    def _begin_anew(self, now_us: int) -> None:
        self._open.clear()  # of the clock's wrong future
        self._next = None
        self._missing_run = 0
        self._latest_us = now_us

    def _telemetry(self, slot: int, means: SlotMeans | None) -> Telemetry:
        time = _EPOCH + timedelta(microseconds=slot * self._slot_us)
        if means is None:
            return Telemetry(
                slice=self.slice, time=time, slot_s=self.slot_s, users=None, qos=None, quality="missing"
            )
        users, qos = means.users, means.qos
        known = users is not None and (qos is not None or users == 0.0)
        return Telemetry(
            slice=self.slice,
            time=time,
            slot_s=self.slot_s,
            users=users,
            qos=qos,
            usage=means.usage,
            pressure=means.pressure,
            throttled=means.throttled,
            source=means.sources,
            quality="complete" if known else "partial",
        )


def _us(seconds: float) -> int:
    return math.floor(seconds * 1e6 + 0.5)
