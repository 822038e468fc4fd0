"""Numbers, times and tables as plain text."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "-"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, without exponents where it can be read."""
    if value is None:
        return UNKNOWN
    if value != 0.0 and abs(value) < 1e-4:
        return f"{value:.2g}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text


def percent(share: float | None, decimals: int = 1) -> str:
    """Return a share as percents."""
    return UNKNOWN if share is None else f"{100.0 * share:.{decimals}f} %"


def signed(value: float | None, digits: int = 3) -> str:
    """Return a number with its sign."""
    if value is None:
        return UNKNOWN
    return f"{'+' if value >= 0.0 else '−'}{number(abs(value), digits)}"


def clock(time: datetime, near: datetime) -> str:
    """Return a time of day, UTC, with its date where that is another than the date of `near`."""
    same_day = time.astimezone(UTC).date() == near.astimezone(UTC).date()
    return f"{time.astimezone(UTC):%H:%M:%S}" if same_day else moment(time)


def moment(time: datetime) -> str:
    """Return a date and time, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return aligned lines; the first `left` columns are text and flush left, the others numbers."""
    widths = [max(len(line[place]) for line in (head, *rows)) for place in range(len(head))]
    return [
        "  ".join(
            f"{text:<{width}}" if place < left else f"{text:>{width}}"
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *rows)
    ]
