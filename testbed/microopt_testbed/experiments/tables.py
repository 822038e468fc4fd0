"""Numbers as they appear in csv files and on the results page."""

import csv
from collections.abc import Sequence
from pathlib import Path

from microopt.errors import ConfigError

Cell = str | float | int | None
NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return a rounded number, or a dash for none."""
    return NONE if value is None else f"{_rounded(value, digits):.{digits}f}"


def percent(value: float | None, digits: int = 2) -> str:
    """Return a share in percent, or a dash for none."""
    return NONE if value is None else f"{number(100 * value, digits)} %"


def signed_percent(value: float, digits: int = 4) -> str:
    """Return a share in percent with its sign."""
    return f"{_rounded(100 * value, digits):+.{digits}f} %"


def _rounded(value: float, digits: int) -> float:
    """Return a number without the minus that rounding to zero would leave."""
    return round(value, digits) + 0.0


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the results page; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Write a table; None is an empty cell.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; see --out") from error
