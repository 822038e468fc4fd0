"""Data sets as parquet, with pyarrow, which this file alone imports and only when it is needed."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from microopt.errors import ConfigError
from microopt_collector.dataset.files import Cell, Line, Table

BATCH_ROWS: Final = 50_000

_TEXT: Final = "quality"
_FLAG: Final = "transient"


class ParquetFormat:
    """Times as timestamps in UTC, numbers as doubles, what is unknown as null."""

    def __init__(self) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            self._parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise ConfigError(
                f"parquet needs pyarrow ({error}): pip install 'microopt[parquet]', or use a .csv"
            ) from error

    def open(self, path: Path, time: str) -> Table:
        """Return the file's table.

        Raises:
            ConfigError: it cannot be read.
        """
        return ParquetTable(path, self._arrow, self._parquet)

    def write(self, path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Write a file, as the rows come."""
        schema = self._arrow.schema([(column, self._type(column)) for column in columns])
        left = iter(rows)
        with self._parquet.ParquetWriter(path, schema) as writer:
            while batch := list(islice(left, BATCH_ROWS)):
                arrays = [
                    self._arrow.array(cells, type=field.type)
                    for field, cells in zip(schema, zip(*batch, strict=True), strict=True)
                ]
                writer.write_batch(self._arrow.record_batch(arrays, schema=schema))

    def _type(self, column: str) -> Any:
        if column == "time":
            return self._arrow.timestamp("ms", tz="UTC")
        return {_TEXT: self._arrow.string(), _FLAG: self._arrow.bool_()}.get(column, self._arrow.float64())


class ParquetTable:
    """A parquet file that can be read again and again."""

    def __init__(self, path: Path, arrow: Any, parquet: Any) -> None:
        self._path = path
        self._arrow = arrow
        self._parquet = parquet
        with self._reading() as file:
            self.columns: Sequence[str] = file.schema_arrow.names

    def rows(self, wanted: Sequence[str]) -> Iterator[Line]:
        """Yield the cells of the `wanted` columns of each row: numbers, text or times."""
        number = 0
        with self._reading() as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted)):
                columns = [self._cells(batch.column(name)) for name in wanted]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield Line(f"row {number}", cells)

    def _cells(self, column: Any) -> Any:
        if self._arrow.types.is_timestamp(column.type):  # Python's times have no nanoseconds
            column = column.cast(self._arrow.timestamp("us", tz=column.type.tz), safe=False)
        return column.to_pylist()

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._parquet.ParquetFile(self._path) as file:
                yield file
        except (OSError, self._arrow.ArrowException) as error:
            raise ConfigError(f"{self._path}: cannot be read as parquet: {error}") from error
