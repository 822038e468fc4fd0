"""Counting an interval's slots as they come, in a byte a slot: a thousand slices say one each second."""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from microopt.ids import unix_ms
from microopt.messages import Allocation, Interval, Telemetry
from microopt.specs import Sla

Fate = Literal["counted", "again", "other-length"]

MOST_WAITING: Final = 2048
"""Slots of a slice that are kept without an allocation to whose interval they belong."""
MOST_SLOTS: Final = 31 * 86_400
"""Slots of an interval, a byte each: those of a second in the longest interval that there is."""

_UNSEEN, _UNKNOWN, _KNOWN = range(3)


class Slot(NamedTuple):
    """One slot of telemetry, as far as degradation asks; NaN is unknown."""

    ms: float
    slot_ms: float
    users: float
    qos: float

    @classmethod
    def of(cls, telemetry: Telemetry) -> "Slot":
        """Return the slot of a message."""
        users = math.nan if telemetry.users is None else telemetry.users
        qos = math.nan if telemetry.qos is None else telemetry.qos
        return cls(unix_ms(telemetry.time), telemetry.slot_s * 1000.0, users, qos)

    @property
    def is_known(self) -> bool:
        """Return whether it is known what the slice's users got."""
        return self.users == 0.0 or not (math.isnan(self.users) or math.isnan(self.qos))

    def misses(self, sla: Sla) -> bool:
        """Return whether users got the threshold or less (paper eq. 1), or of a delay the threshold or more."""
        return self.qos <= sla.qos_threshold if sla.higher_is_better else self.qos >= sla.qos_threshold


class Waiting:
    """Slots for which there is no interval yet, the oldest leaving first; four numbers each."""

    def __init__(self) -> None:
        self._numbers = array("d")

    def __len__(self) -> int:
        return len(self._numbers) // 4

    def add(self, slot: Slot) -> int:
        """Keep a slot; return how many old ones had to go."""
        self._numbers.extend(slot)
        gone = len(self) - MOST_WAITING
        if gone < MOST_WAITING // 8:  # a few at once: each removal moves all others
            return 0
        del self._numbers[: 4 * gone]
        return gone

    def take(self, start_ms: float, end_ms: float) -> Iterator[Slot]:
        """Return the slots from `start_ms` to before `end_ms`; they no longer wait, nor do older ones."""
        numbers, self._numbers = self._numbers, array("d")
        for place in range(0, len(numbers), 4):
            slot = Slot(*numbers[place : place + 4])
            if slot.ms >= end_ms:
                self._numbers.extend(slot)
            elif slot.ms >= start_ms:
                yield slot


@dataclass(frozen=True)
class Rule:
    """An allocation and since when it was in force, if its interval had begun."""

    since_ms: float
    allocation: Allocation


class Tally:
    """What one interval of one slice has come to so far.

    A slot that is told again counts once, and a known one wins over an unknown one.
    """

    def __init__(self, interval: Interval) -> None:
        self.interval = interval
        self.start_ms = float(unix_ms(interval.start))
        self.end_ms = float(unix_ms(interval.end))
        self.rules: dict[int, Rule] = {}
        self.known = 0
        self.users = 0.0
        self.missed = 0.0
        self._slot_ms = 0.0
        self._slots = bytearray()

    def __contains__(self, slot: Slot) -> bool:
        return self.start_ms <= slot.ms < self.end_ms

    def rule(self, allocation: Allocation, since_ms: float) -> None:
        """Take one of the interval's allocations; of an epoch that comes again, the first telling counts."""
        self.rules.setdefault(allocation.epoch, Rule(max(since_ms, self.start_ms), allocation))

    def slots(self, slot_s: float) -> int:
        """Return of how many slots the interval is, of `slot_s` where none has told its length."""
        return max(1, round((self.end_ms - self.start_ms) / (self._slot_ms or slot_s * 1000.0)))

    def count(self, slot: Slot, sla: Sla) -> Fate:
        """Count a slot of this interval."""
        if self._slots and slot.slot_ms != self._slot_ms:
            return "other-length"
        if not self._slots:
            if self.end_ms - self.start_ms > MOST_SLOTS * slot.slot_ms:
                return "other-length"
            self._slot_ms = slot.slot_ms
            self._slots = bytearray(self.slots(0.0))
        index = min(int((slot.ms - self.start_ms) / self._slot_ms + 1e-6), len(self._slots) - 1)
        state = _KNOWN if slot.is_known else _UNKNOWN
        if self._slots[index] >= state:
            return "again"
        self._slots[index] = state
        if state == _KNOWN:
            self.known += 1
            self.users += slot.users
            if slot.users > 0.0 and slot.misses(sla):
                self.missed += slot.users
        return "counted"

    def ruling(self) -> Allocation:
        """Return the allocation that was in force for the longest part, the latest of equals.

        A higher epoch ends a lower one's rule. What ruled before the first of this interval's is not counted.
        """
        ordered = [self.rules[epoch] for epoch in sorted(self.rules)]
        best, longest_ms = ordered[-1], -1.0
        until_ms = self.end_ms
        for rule in reversed(ordered):
            ruled_ms = max(0.0, until_ms - rule.since_ms)
            if ruled_ms > longest_ms:
                best, longest_ms = rule, ruled_ms
            until_ms = min(until_ms, rule.since_ms)
        return best.allocation
