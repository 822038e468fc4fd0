"""A value that is wished for one resource, and how far it has come."""

from dataclasses import dataclass
from datetime import datetime

from microopt.messages import ActuationState
from microopt_actuator.drivers.base import Write
from microopt_actuator.effect import Effect


@dataclass(frozen=True, slots=True)
class Wish:
    """A value to be in force; `keep` puts it back whenever somebody else changes it.

    `since_s` is the monotonic time at which the wish fell due.
    """

    epoch: int
    value: float
    since_s: float
    keep: bool = True
    forecast_made_at: datetime | None = None
    pool: str = ""

    def same_as(self, other: "Wish") -> bool:
        """Return whether both want the same of the world."""
        return (self.epoch, self.value) == (other.epoch, other.value)


@dataclass(slots=True)
class Job:
    """One wish, and how far it has come."""

    wish: Wish
    since_s: float
    state: ActuationState | None = None
    error: str = ""
    write: Write | None = None
    """What was planned last, which says what a reading has to show."""
    written: bool = False
    failures: int = 0
    tried_at_s: float = 0.0
    unread_since_s: float | None = None
    """When the first attempt began that could not read it, None while it can be read."""
    before: float | None = None
    """What was in force when it was written."""
    given_up: bool = False
    effect: Effect | None = None
    verified_at: datetime | None = None

    @property
    def is_at_rest(self) -> bool:
        """Return whether nothing is to be done before a new wish comes."""
        return not self.wish.keep and (self.state == "verified" or self.given_up)
