"""What UEs got in a slot, counted while they wanted something."""

from dataclasses import dataclass
from typing import Final

from msgspec import Struct

LEAST_ACTIVE: Final = 0.5
"""A UE that wanted data for a smaller part of a slot has no throughput: its buffer was full, or it came late."""


class UeSlot(Struct, frozen=True):
    """One UE's slot: bytes received, and the seconds for which it wanted more."""

    received: int
    active_s: float


@dataclass(slots=True)
class Goodput:
    """Counts for one UE; `active` says whether it wants data now."""

    received: int = 0
    _active_since_s: float | None = None
    _active_s: float = 0.0

    def want(self, now_s: float) -> None:
        """Note that the UE wants data from now on."""
        if self._active_since_s is None:
            self._active_since_s = now_s

    def have_enough(self, now_s: float) -> None:
        """Note that it does not any more."""
        if self._active_since_s is not None:
            self._active_s += now_s - self._active_since_s
            self._active_since_s = None

    def close(self, now_s: float) -> UeSlot:
        """Return what was counted since the last slot ended, and begin the next."""
        if self._active_since_s is not None:
            self._active_s += now_s - self._active_since_s
            self._active_since_s = now_s
        slot = UeSlot(self.received, self._active_s)
        self.received, self._active_s = 0, 0.0
        return slot


def mean_mbps(slots: list[UeSlot], slot_s: float) -> float | None:
    """Return the mean throughput of the UEs that wanted data, in Mbit/s; None where none did."""
    rates = [8e-6 * one.received / one.active_s for one in slots if one.active_s >= LEAST_ACTIVE * slot_s]
    return sum(rates) / len(rates) if rates else None
