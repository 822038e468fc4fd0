"""When which interval is forecast."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule:
    """The intervals of one slice: interval n begins n · `interval_s` after the Unix epoch."""

    def __init__(self, interval_s: float, lead_s: float) -> None:
        self.interval_s = interval_s
        self.lead_s = lead_s
        self._interval_us = max(1, round(interval_s * 1e6))
        self._done: int | None = None

    def start(self, interval: int) -> datetime:
        """Return when `interval` begins."""
        return _EPOCH + timedelta(microseconds=interval * self._interval_us)

    def number(self, time_s: float) -> int:
        """Return the interval that holds `time_s`, in seconds since the Unix epoch."""
        return round(time_s * 1e6) // self._interval_us

    def due(self, now_s: float) -> range:
        """Return the intervals to forecast now: the current one and those that begin within the lead, once.

        What was done further ahead than the lead reaches was done by a clock that is right no more, and is
        forgotten; one interval of tolerance is for clocks that are corrected by a little.
        """
        current, last = self.number(now_s), self.number(now_s + self.lead_s)
        if self._done is not None and self._done > last + 1:
            self._done = None
        first = current if self._done is None else max(current, self._done + 1)
        return range(first, last + 1)

    def done(self, interval: int) -> None:
        """Note that `interval`, and with it all before, need no forecast any more."""
        self._done = interval if self._done is None else max(interval, self._done)

    def resume(self, former: "Schedule") -> None:
        """Go on after the intervals that `former`, of the same `interval_s`, has done."""
        self._done = former._done

    def wait_s(self, now_s: float) -> float:
        """Return how long there is nothing to do for, in seconds; not above 0 when something is due."""
        if self._done is None:
            return 0.0
        return (self._done + 1) * self._interval_us / 1e6 - self.lead_s - now_s
