"""What a slice was allocated: the allocation that rules, and beside it the one whose interval has yet to begin."""

import time
from dataclasses import dataclass
from datetime import datetime

from microopt.messages import Allocation


@dataclass(slots=True)
class Standing:
    """One slice's accepted allocations; all resources of one take effect together, at its interval's start.

    Until `pending` is due, `ruling` rules on, or its blind policy. `since_s` is the monotonic time at which
    `ruling` fell due: at its start, or at its receipt where that was later.
    """

    ruling: Allocation | None = None
    pending: Allocation | None = None
    since_s: float = 0.0
    _received_s: float = 0.0

    @property
    def newest(self) -> Allocation | None:
        """Return the allocation that was accepted last, due or not."""
        return self.pending or self.ruling

    def take(self, allocation: Allocation, now: datetime) -> None:
        """Keep `allocation` until it is due, in place of one that waits; one that is older changes nothing.

        The same epoch again changes nothing but how long it is valid.
        """
        self.switch(now)  # what fell due meanwhile rules, and is no longer replaced as one that waits
        newest = self.newest
        if newest is not None and _key(allocation) <= _key(newest):
            return
        if self.pending is None and self.ruling is not None and self.ruling.epoch == allocation.epoch:
            self.ruling, self.since_s = allocation, time.monotonic()
            return
        self.pending, self._received_s = allocation, time.monotonic()
        self.switch(now)

    def switch(self, now: datetime) -> None:
        """Let the allocation that waits rule, if its interval has begun."""
        if self.pending is None or now < self.pending.interval.start:
            return
        late_s = (now - self.pending.interval.start).total_seconds()
        self.since_s = max(self._received_s, time.monotonic() - late_s)
        self.ruling, self.pending = self.pending, None


def _key(allocation: Allocation) -> tuple[int, datetime]:
    return allocation.epoch, allocation.valid_until
