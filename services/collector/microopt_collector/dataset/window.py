"""The times that `--from` and `--to` take."""

from dataclasses import dataclass
from datetime import datetime

from microopt.cli.times import time_of
from microopt.errors import ConfigError


@dataclass(frozen=True)
class Window:
    """The slots that begin at `start` or later, and before `end`."""

    start: datetime
    end: datetime


def window(start: str, end: str, now: datetime) -> Window:
    """Return the window from `start` to `end`, as `time_of` reads them.

    Raises:
        ConfigError: one of them is no time, or the window is empty.
    """
    found = Window(time_of(start, now, "--from"), time_of(end, now, "--to"))
    if found.start >= found.end:
        raise ConfigError(
            f"--from {start} is {found.start.isoformat()}, not before --to {end}, which is {found.end.isoformat()}"
        )
    return found
