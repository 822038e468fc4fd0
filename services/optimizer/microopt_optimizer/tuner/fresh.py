"""Which slots of telemetry tell how a slice model predicts: complete, with the allocation known and settled."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from microopt.messages import Telemetry

GAP_SLOTS: Final = 10.0
"""After a longer silence nobody knows what was in force; data sets are judged by the same."""


class Row(NamedTuple):
    """A slot as a slice model sees it; `resources` are in the order of the model's inputs."""

    time: datetime
    users: float
    resources: tuple[float, ...]
    qos: float


class Settled:
    """Tells of one slice which slots, in the order of time, show an allocation that has settled."""

    def __init__(self, settle_s: float) -> None:
        self._settle = timedelta(seconds=settle_s)
        self._since: datetime | None = None
        self._last: Telemetry | None = None

    def takes(self, slot: Telemetry) -> bool:
        """Return whether `slot` is new and a settling time or more after a change, a gap or the first slot."""
        last = self._last
        if last is not None and slot.time <= last.time:
            return False  # delivered again, or late
        if self._since is None or last is None or slot.allocation != last.allocation or _is_gap(last, slot):
            self._since = slot.time
        self._last = slot
        return slot.time - self._since >= self._settle


def is_known(slot: Telemetry) -> bool:
    """Return whether a slot has users that were served, their QoS, and an allocation."""
    return bool(slot.quality == "complete" and slot.users and slot.qos is not None and slot.allocation)


def row(slot: Telemetry, resources: Sequence[str]) -> Row | None:
    """Return a slot for a model of these resources, or None where one of them is not known."""
    if not slot.users or slot.qos is None:
        return None
    values = tuple(slot.allocation.get(name, -1.0) for name in resources)
    return None if min(values) < 0.0 else Row(slot.time, slot.users, values, slot.qos)


def _is_gap(last: Telemetry, slot: Telemetry) -> bool:
    return (slot.time - last.time).total_seconds() > GAP_SLOTS * last.slot_s
