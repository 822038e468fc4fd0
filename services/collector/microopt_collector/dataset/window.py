"""The times that `--from` and `--to` take."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from microopt.errors import ConfigError

_RELATIVE: Final = re.compile(r"-(\d{1,6}(?:\.\d+)?)([smhdw])")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Window:
    """The slots that begin at `start` or later, and before `end`."""

    start: datetime
    end: datetime


def window(start: str, end: str, now: datetime) -> Window:
    """Return the window from `start` to `end`, as `time` reads them.

    Raises:
        ConfigError: one of them is no time, or the window is empty.
    """
    found = Window(time(start, now, "--from"), time(end, now, "--to"))
    if found.start >= found.end:
        raise ConfigError(
            f"--from {start} is {found.start.isoformat()}, not before --to {end}, which is {found.end.isoformat()}"
        )
    return found


def time(text: str, now: datetime, option: str) -> datetime:
    """Return the time that `text` says: ISO 8601 with a zone, a date (its midnight, UTC), `now`, or `-24h`.

    Raises:
        ConfigError: it says none, or none that there is; the text names `option`.
    """
    if text == "now":
        return now
    try:
        if relative := _RELATIVE.fullmatch(text):
            return now - timedelta(seconds=float(relative[1]) * _UNIT_S[relative[2]])
        found = datetime.fromisoformat(text)
        if _DATE.fullmatch(text):
            return found.replace(tzinfo=UTC)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option} {text!r}: not a time; write 2026-01-31T08:00:00Z, 2026-01-31, now, or -90s, -30m, -24h, -7d"
        ) from None
    raise ConfigError(f"{option} {text!r}: in which zone? Write {text}Z for UTC, or {text}+01:00")
