"""Which allocation a slice had in a slot, from what the actuators report."""

from collections import defaultdict, deque
from datetime import datetime
from typing import Final

from microopt.messages import Actuation

HISTORY: Final = 64
"""Changes kept of each resource: a slot is closed a little after its end, when the next value may be in force."""

_IN_FORCE: Final = frozenset({"applied", "verified"})
_SEEN_LATER: Final = frozenset({"effective", "ineffective"})
"""Of a value that was verified before; `observed` is its use."""


class AllocationsInForce:
    """The observed values of each slice's resources, in each resource's unit, and since when."""

    def __init__(self) -> None:
        self._changes: dict[str, dict[str, deque[tuple[datetime, float | None]]]] = defaultdict(dict)

    def note(self, actuation: Actuation) -> None:
        """Take one report.

        A refusal changes nothing, nor does a failure that says no value; a value not read back is unknown.
        """
        changes = self._changes[actuation.slice].setdefault(actuation.resource, deque(maxlen=HISTORY))
        was_read = actuation.state == "failed" and actuation.observed is not None  # somebody else's value
        if actuation.state in _IN_FORCE or was_read:
            changes.append((actuation.at, actuation.observed))
        elif actuation.state in _SEEN_LATER and not changes:  # the last report is all that a new process hears
            changes.append((actuation.at, actuation.requested))

    def before(self, slice: str, end: datetime) -> dict[str, float]:
        """Return the values that were in force just before `end`, of the resources for which they are known."""
        found: dict[str, float] = {}
        for resource, changes in self._changes.get(slice, {}).items():
            value = next((value for at, value in reversed(changes) if at < end), None)
            if value is not None:
                found[resource] = value
        return found
