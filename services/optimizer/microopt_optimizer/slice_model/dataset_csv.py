"""Reading measurements from a csv file, and cleaning them of what a slice model must not learn."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.dataset import Dataset, Floats

SETTLE_S = 12.0
"""The authors' testbed shows the previous bandwidth for the first 10 to 12 s after a change."""

_GAP_STEPS = 10.0


@dataclass(frozen=True)
class ResourceColumn:
    """A resource's column in the file and the unit of its values."""

    column: str
    unit: str


def _default_resources() -> dict[str, ResourceColumn]:
    return {
        "gnb_cpu": ResourceColumn("cpu", "millicores"),
        "transport_bandwidth": ResourceColumn("bw", "Mbit/s"),
    }


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column is what; `resources` maps names on the wire to columns. The default is the authors' format.

    `time` holds ISO 8601 times (UTC unless they say otherwise) or seconds; None where the file has no times, and
    then its rows are taken in their order and nothing can be said about settling or duplicates.
    """

    users: str = "n_users"
    qos: str = "qos"
    time: str | None = "time"
    resources: Mapping[str, ResourceColumn] = field(default_factory=_default_resources)
    qos_metric: str = "dl_thpt_per_ue"
    qos_unit: str = "Mbit/s"
    higher_is_better: bool = True

    @property
    def numeric(self) -> list[str]:
        """Return the columns of numbers: users, the resources in their order, QoS."""
        return [self.users, *(resource.column for resource in self.resources.values()), self.qos]


@dataclass(frozen=True, kw_only=True)
class CleaningReport:
    """How many rows were read, and why those that are missing were dropped."""

    rows_read: int
    duplicates: int
    invalid: int
    unsettled: int
    kept: int
    first_invalid: str = ""
    """Line, column and value of the first that is empty, not finite or negative."""

    @property
    def dropped(self) -> str:
        """Return in words what was dropped."""
        first = f" (first: {self.first_invalid})" if self.first_invalid else ""
        return (
            f"dropped {self.duplicates} duplicates, {self.invalid} invalid{first}, "
            f"{self.unsettled} before the slice had settled"
        )


def read_csv(
    path: Path, columns: Columns | None = None, *, settle_s: float = SETTLE_S
) -> tuple[Dataset, CleaningReport]:
    """Read and clean measurements; the rows come back sorted by time.

    Dropped, and counted in this order: exact duplicates; rows with an empty, NaN, infinite or negative value; rows
    less than `settle_s` seconds after a change of resources or after a gap in the file.

    Raises:
        ConfigError: the file cannot be read, lacks a column, holds what is not a number, or nothing is left.
    """
    columns = columns or Columns()
    if not settle_s >= 0.0:
        raise ConfigError(f"settle_s is {settle_s:g}, must be 0 or more seconds")
    table, first_invalid = _read_table(path, columns)
    rows_read = table.shape[0]
    if columns.time is not None:
        table = np.unique(table, axis=0)  # sorts by its first column, time, as well
    duplicates = rows_read - table.shape[0]
    valid = np.isfinite(table).all(axis=1) & (table[:, 1:] >= 0.0).all(axis=1)
    table = table[valid]
    settled = (
        _settled(table[:, 0], table[:, 2:-1], settle_s)
        if columns.time is not None
        else np.ones(len(table), dtype=np.bool_)
    )
    clean = table[settled]
    report = CleaningReport(
        rows_read=rows_read,
        duplicates=duplicates,
        invalid=int((~valid).sum()),
        unsettled=int((~settled).sum()),
        kept=clean.shape[0],
        first_invalid=first_invalid,
    )
    if clean.shape[0] == 0:
        raise ConfigError(
            f"{path}: none of its {rows_read} rows is left: {report.dropped}; mend the values, or lower "
            f"settle_s ({settle_s:g})"
        )
    return _dataset(clean, columns), report


def _dataset(table: Floats, columns: Columns) -> Dataset:
    return Dataset(
        time_s=table[:, 0] if columns.time is not None else None,
        users=table[:, 1],
        resources=table[:, 2:-1],
        qos=table[:, -1],
        resource_names=tuple(columns.resources),
        resource_units=tuple(resource.unit for resource in columns.resources.values()),
        qos_metric=columns.qos_metric,
        qos_unit=columns.qos_unit,
        higher_is_better=columns.higher_is_better,
    )


def _settled(time_s: Floats, resources: Floats, settle_s: float) -> npt.NDArray[np.bool_]:
    """Return which rows (sorted by time) are `settle_s` or more after their segment's first row.

    A segment ends where resources change, and at a gap of ten usual steps: nobody knows what was in force there.
    """
    if time_s.size == 0:
        return np.zeros(0, dtype=np.bool_)
    steps = np.diff(time_s)
    moving = steps[steps > 0.0]
    longest = _GAP_STEPS * float(np.median(moving)) if moving.size else math.inf
    new = np.concatenate([[True], (np.diff(resources, axis=0) != 0.0).any(axis=1) | (steps > longest)])
    start = time_s[new][np.cumsum(new) - 1]
    return np.asarray(time_s - start >= settle_s, dtype=np.bool_)


def _read_table(path: Path, columns: Columns) -> tuple[Floats, str]:
    """Return the rows as [n, 1 + len(numeric)], seconds first, then the numbers; and the first invalid value."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            numbered = list(_rows(path, csv.reader(file), columns))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as csv: {error}") from error
    if not numbered:
        raise ConfigError(f"{path}: has no rows below its header")
    table = np.array([row for _, row in numbered], dtype=np.float64)
    invalid = ~np.isfinite(table)
    invalid[:, 1:] |= table[:, 1:] < 0.0
    if not invalid.any():
        return table, ""
    row, place = np.argwhere(invalid)[0]
    column = columns.time if place == 0 else columns.numeric[place - 1]
    return table, f"line {numbered[row][0]}, column {column!r}: {table[row, place]:g}"


def _rows(path: Path, reader: Iterator[list[str]], columns: Columns) -> Iterator[tuple[int, list[float]]]:
    """Yield line numbers and values."""
    header = next(reader, [])
    if not header:
        raise ConfigError(f"{path}: is empty; its first line must name the columns")
    wanted = columns.numeric if columns.time is None else [columns.time, *columns.numeric]
    for column in wanted:
        if column not in header:
            raise ConfigError(f"{path}, line 1: no column {column!r} among {header}; map the columns to its names")
        if header.count(column) > 1:
            raise ConfigError(f"{path}, line 1: {header.count(column)} columns are called {column!r}; rename one")
    position = {column: header.index(column) for column in wanted}
    for line, cells in enumerate(reader, start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise ConfigError(f"{path}, line {line}: {len(cells)} values, but the header names {len(header)}")
        first = 0.0 if columns.time is None else _seconds(path, line, columns.time, cells[position[columns.time]])
        numbers = (_number(path, line, column, cells[position[column]]) for column in columns.numeric)
        yield line, [first, *numbers]


def _number(path: Path, line: int, column: str, text: str) -> float:
    if not text.strip():
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{path}, line {line}, column {column!r}: {text!r} is not a number") from None


def _seconds(path: Path, line: int, column: str, text: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{path}, line {line}, column {column!r}: {text!r} is not a time") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
