"""Data sets as files: csv or parquet, by the end of their name."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from microopt.errors import ConfigError

Cell = datetime | float | str | bool | None

FORMATS: Final = (".csv", ".parquet")


class Line(NamedTuple):
    """One row: where it stands, and its cells; None where their number is not that of the columns."""

    place: str
    cells: Sequence[object] | None


class Table(Protocol):
    """A file that can be read, row by row and more than once."""

    columns: Sequence[str]

    def rows(self, wanted: Sequence[str]) -> Iterator[Line]:
        """Yield the cells of the `wanted` columns of each row: text, numbers or times; empty ones as None."""
        ...


class Format(Protocol):
    """What a file's format can do."""

    def open(self, path: Path, time: str) -> Table:
        """Return the file's table; `time` is a column that it should have.

        Raises:
            ConfigError: it cannot be read.
        """
        ...

    def write(self, path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Write a file, as the rows come."""
        ...


def format_of(path: Path) -> Format:
    """Return the format of a file by its name.

    Raises:
        ConfigError: it is neither, or what parquet needs is not installed.
    """
    if path.suffix == ".csv":
        from microopt_collector.dataset.csv_file import CsvFormat

        return CsvFormat()
    if path.suffix == ".parquet":
        from microopt_collector.dataset.parquet_file import ParquetFormat

        return ParquetFormat()
    raise ConfigError(f"{path}: give it a name that ends in {' or '.join(FORMATS)}")


def require_columns(path: Path, columns: Sequence[str], wanted: Iterable[str]) -> None:
    """Refuse a file without one of the `wanted` columns, or with two of its name.

    Raises:
        ConfigError: the text names the file, the column and what there is.
    """
    for column in wanted:
        if column not in columns:
            raise ConfigError(f"{path}: no column {column!r} among {', '.join(map(repr, columns))}")
        if list(columns).count(column) > 1:
            raise ConfigError(f"{path}: two columns are called {column!r}; rename one")
