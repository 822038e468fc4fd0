"""Counters to rates."""

from typing import Final

from microopt_collector.sources.base import Rejected

MAX_GAP_S: Final = 300.0
"""A mean over more than this says nothing of the slot that it would be put into."""
MAX_COUNTERS: Final = 100_000


class Rates:
    """The last reading of each counter."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def per_s(self, counter: str, value: float, time_s: float) -> float | None:
        """Return the counter's growth per second since its last reading; None where nothing can be said.

        The first reading gives no rate, nor does one that is not newer than the last or comes minutes later.

        Raises:
            Rejected: the counter went back (`reset`); the next reading gives a rate again.
        """
        before = self._last.get(counter)
        if before is not None and time_s <= before[0]:
            return None
        if before is None and len(self._last) >= MAX_COUNTERS:
            del self._last[next(iter(self._last))]  # the oldest: names come from outside
        self._last[counter] = (time_s, value)
        if before is None or time_s - before[0] > MAX_GAP_S:
            return None
        if value < before[1]:
            raise Rejected(
                "reset", f"counter {counter!r} went back from {before[1]:g} to {value:g}: no rate across a restart"
            )
        return (value - before[1]) / (time_s - before[0])
