"""Which slots of a slice the bus has already."""

from typing import Final

from microopt.messages import Telemetry

_PAGE: Final = 32_768  # slots; 4 KiB each


class Slots:
    """A set of slots that takes one bit for each, wherever they lie in time."""

    def __init__(self, slot_s: float) -> None:
        self._slot_us = max(1, round(slot_s * 1e6))
        self._pages: dict[int, bytearray] = {}

    def add(self, slot: Telemetry) -> None:
        """Note the slot of `slot`."""
        page, place = divmod(self._number(slot), _PAGE)
        self._pages.setdefault(page, bytearray(_PAGE // 8))[place // 8] |= 1 << place % 8

    def __contains__(self, slot: Telemetry) -> bool:
        """Return whether the slot of `slot` was noted."""
        page, place = divmod(self._number(slot), _PAGE)
        return page in self._pages and bool(self._pages[page][place // 8] & 1 << place % 8)

    def _number(self, slot: Telemetry) -> int:
        return round(slot.time.timestamp() * 1e6) // self._slot_us


class Seen:
    """What the bus has of a slice: a slot that was said to be missing can still be told, once."""

    def __init__(self, slot_s: float) -> None:
        self._said = Slots(slot_s)
        self._known = Slots(slot_s)

    def note(self, slot: Telemetry) -> None:
        """Take one telemetry that the bus has."""
        self._said.add(slot)
        if slot.quality != "missing":
            self._known.add(slot)

    def has(self, slot: Telemetry) -> bool:
        """Return whether `slot` would add nothing to it."""
        return slot in (self._said if slot.quality == "missing" else self._known)
