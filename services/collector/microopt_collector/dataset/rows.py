"""From telemetry to the rows of a data set: one a slot, the missing ones too, each settled or not."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from microopt.messages import Telemetry, Values

SETTLE_S: Final = 12.0
"""The default of `microopt train` as well: how long a measured slice showed what it had been allocated before."""

GAP_SLOTS: Final = 10.0
"""After a longer silence nobody knows what was in force; `microopt train` judges the same of a file's rows."""


class Row(NamedTuple):
    """A slot, and whether it still shows an allocation that is no longer in force."""

    telemetry: Telemetry
    transient: bool


class Settling:
    """Tells which slots of one slice, in the order of time, come too soon after a change of its allocation."""

    def __init__(self, settle_s: float) -> None:
        self._settle = timedelta(seconds=settle_s)
        self._allocation: Values | None = None
        self._since: datetime | None = None
        self._last: Telemetry | None = None

    def is_transient(self, slot: Telemetry) -> bool:
        """Return whether `slot` is less than the settling time after a change, a gap or the first slot."""
        if self._since is None or slot.allocation != self._allocation or self._is_after_gap(slot):
            self._since = slot.time
        self._allocation, self._last = slot.allocation, slot
        return slot.time - self._since < self._settle

    def _is_after_gap(self, slot: Telemetry) -> bool:
        last = self._last
        return last is not None and (slot.time - last.time).total_seconds() > GAP_SLOTS * last.slot_s


def rows(slots: Iterable[Telemetry], start: datetime, settle_s: float) -> Iterator[Row]:
    """Yield a row for each slot from `start` on, and for each slot between them of which nothing is known.

    `slots` are in the order of time. Those before `start` tell what was in force then, and become no rows.
    """
    settling = Settling(settle_s)
    previous: Telemetry | None = None
    for slot in slots:
        if _says_nothing(slot):
            continue
        transient = settling.is_transient(slot)
        if slot.time < start:
            continue
        if previous is not None:
            for missing in _missing_between(previous, slot):
                yield Row(missing, transient=True)  # nobody knows what was in force
        yield Row(slot, transient)
        previous = slot


def _says_nothing(slot: Telemetry) -> bool:
    """Return whether `slot` is the same as no telemetry at all."""
    return slot.quality == "missing" and not (slot.allocation or slot.usage or slot.pressure or slot.throttled)


def _missing_between(previous: Telemetry, slot: Telemetry) -> Iterator[Telemetry]:
    step = timedelta(seconds=previous.slot_s)
    number = 1
    while (time := previous.time + number * step) + step / 2 < slot.time:
        yield Telemetry(
            slice=slot.slice, time=time, slot_s=previous.slot_s, users=None, qos=None, quality="missing"
        )
        number += 1
