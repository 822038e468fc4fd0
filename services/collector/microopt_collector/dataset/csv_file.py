"""Data sets as csv."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from microopt.errors import ConfigError
from microopt_collector.dataset.files import Cell, Line, Table

DELIMITERS: Final = (",", ";", "\t")


class CsvFormat:
    """UTF-8 with a header; numbers in full precision, times in UTC, what is unknown is empty."""

    def open(self, path: Path, time: str) -> Table:
        """Return the file's table; it may have a byte order mark, any line ends, and ; or tabs between cells.

        Raises:
            ConfigError: it cannot be read, or is empty.
        """
        return CsvTable(path, time)

    def write(self, path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Write a file, as the rows come."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_text(cell) for cell in row] for row in rows)


class CsvTable:
    """A csv that can be read again and again; the delimiter is the one with which there is a column `time`."""

    def __init__(self, path: Path, time: str) -> None:
        self._path = path
        with self._reading() as lines:
            first = next(lines, "")
        if not first.strip():
            raise ConfigError(f"{path}: is empty; its first line must name the columns")
        headers = {delimiter: next(csv.reader([first], delimiter=delimiter)) for delimiter in DELIMITERS}
        self._delimiter = next((d for d, header in headers.items() if time in header), DELIMITERS[0])
        self.columns: Sequence[str] = headers[self._delimiter]

    def rows(self, wanted: Sequence[str]) -> Iterator[Line]:
        """Yield the cells of the `wanted` columns of each row as text, empty ones as None."""
        positions = [self.columns.index(column) for column in wanted]
        with self._reading() as lines:
            reader = csv.reader(lines, delimiter=self._delimiter)
            next(reader, None)
            for cells in reader:
                if not cells:
                    continue
                whole = len(cells) == len(self.columns)
                found = [cells[position].strip() or None for position in positions] if whole else None
                yield Line(f"line {reader.line_num}", found)

    @contextmanager
    def _reading(self) -> Iterator[Iterator[str]]:
        try:
            with self._path.open(newline="", encoding="utf-8-sig") as file:
                yield file
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{self._path}: cannot be read as csv in UTF-8: {error}") from error


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, datetime):  # always with milliseconds: readers guess the form from the first row
        return cell.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return cell if isinstance(cell, str) else repr(cell)
