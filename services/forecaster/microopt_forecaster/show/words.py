"""Times, lengths and users as text."""

from datetime import UTC, datetime
from typing import Final

MOST_LETTERS: Final = 32
_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration(length_s: float, *, rough: bool = False) -> str:
    """Return a length such as `10 min`: exact in the largest unit that it is a whole number of, or about so."""
    for unit_s, unit in _UNITS:
        if length_s >= unit_s and (rough or length_s % unit_s == 0.0):
            return f"{length_s // unit_s:.0f} {unit}"
    return f"{length_s:.0f} s" if rough else f"{length_s:g} s"


def clock(time: datetime, length_s: float) -> str:
    """Return the time of day, UTC, as finely as intervals of `length_s` need."""
    time = time.astimezone(UTC)
    if length_s % 60.0 == 0.0:
        return f"{time:%H:%M}"
    return f"{time:%H:%M:%S}" if length_s % 1.0 == 0.0 else f"{time:%H:%M:%S}.{time.microsecond // 1000:03}"


def name(text: str) -> str:
    """Return what somebody called himself, short and harmless to a terminal."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:MOST_LETTERS])


def decimals(most: float) -> int:
    """Return how many decimals users are shown with when there are at `most` so many."""
    return 0 if most >= 1000.0 else 1 if most >= 10.0 else 2
