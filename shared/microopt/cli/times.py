"""The times that options such as `--from` take."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from microopt.errors import ConfigError

_RELATIVE: Final = re.compile(r"-(\d{1,6}(?:\.\d+)?)([smhdw])")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def time_of(text: str, now: datetime, option: str) -> datetime:
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
