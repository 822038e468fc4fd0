"""Measurements into the slots of one slice: one `Telemetry` for each slot, and for each gap."""

import math
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Final, Literal

from microopt.messages import Telemetry
from microopt_collector.sources.base import Measurement

Verdict = Literal["ok", "duplicate", "late"]

MAX_MISSING_RUN: Final = 60
"""After so many empty slots in a row a slice is silent: nobody learns anything from one more."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SlotBook:
    """The open slots of one slice; it keeps no time of its own, `now_s` is seconds since the Unix epoch.

    Slot n begins n · `slot_s` after the epoch. It closes `lateness_slots` slots after its end, by this clock
    alone: a source whose clock is fast must make no other late. What comes for it afterwards is late.
    """

    def __init__(self, slice: str, slot_s: float, lateness_slots: float) -> None:
        self.slice = slice
        self.slot_s = slot_s
        self._slot_us = max(1, _us(slot_s))  # whole microseconds: n * 0.1 s must not fall into slot n - 1
        self._lateness_us = _us(slot_s * lateness_slots)
        self._open: dict[int, dict[tuple[str, int], Measurement]] = {}
        self._next: int | None = None  # the first slot that was not closed; None before the first was
        self._missing_run = 0

    def add(self, measurement: Measurement, now_s: float) -> Verdict:
        """Put `measurement` into its slot, unless it is there already or the slot is closed."""
        time_us = _us(measurement.time_s)
        slot = time_us // self._slot_us
        if slot < self._closed_before(now_s) or (self._next is not None and slot < self._next):
            return "late"
        samples = self._open.setdefault(slot, {})
        key = (measurement.source, time_us)
        if key in samples:
            return "duplicate"
        samples[key] = measurement
        return "ok"

    def close(self, now_s: float) -> list[Telemetry]:
        """Return the telemetry of the slots that closed since the last call, in order, without allocation.

        An empty slot gives one `missing` telemetry, at most `MAX_MISSING_RUN` in a row.
        """
        closed: list[Telemetry] = []
        bound = self._closed_before(now_s)
        if self._next is None and min(self._open, default=bound) < bound:
            self._next = min(self._open)
        while self._next is not None and self._next < bound:
            samples = self._open.pop(self._next, {})
            if not samples and self._missing_run >= MAX_MISSING_RUN:
                self._next = min(bound, min(self._open, default=bound))
                continue
            self._missing_run = 0 if samples else self._missing_run + 1
            closed.append(self._telemetry(self._next, samples.values()))
            self._next += 1
        return closed

    def _closed_before(self, now_s: float) -> int:
        return (_us(now_s) - self._lateness_us) // self._slot_us

    def _telemetry(self, slot: int, samples: Collection[Measurement]) -> Telemetry:
        users, qos = mean_users(samples), mean_qos(samples)
        known = users is not None and (qos is not None or users == 0.0)
        return Telemetry(
            slice=self.slice,
            time=_EPOCH + timedelta(microseconds=slot * self._slot_us),
            slot_s=self.slot_s,
            users=users,
            qos=qos,
            source=",".join(sorted({m.source for m in samples})),
            quality="missing" if not samples else "complete" if known else "partial",
        )


def mean_users(samples: Collection[Measurement]) -> float | None:
    """Return the mean of the known numbers of users, or None."""
    known = [m.users for m in samples if m.users is not None]
    return fmean(known) if known else None


def mean_qos(samples: Collection[Measurement]) -> float | None:
    """Return the mean of the known QoS, weighted by users; without users there is none.

    Where a source measures QoS but counts no users, all samples weigh the same.
    """
    rated = [(m.qos, m.users) for m in samples if m.qos is not None and m.users != 0.0]
    weights = [users for _, users in rated if users is not None]
    if not rated:
        return None
    return fmean((qos for qos, _ in rated), weights if len(weights) == len(rated) else None)


def _us(seconds: float) -> int:
    return math.floor(seconds * 1e6 + 0.5)
