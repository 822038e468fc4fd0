"""The traffic that is forecast: squares of Milan and cells of an LTE network."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import click
import numpy as np
from numpy.typing import NDArray

from microopt_forecaster.grid import Grid

Floats = NDArray[np.float64]

SQUARES: Final = (4159, 5161)
CELLS: Final = ("Cell000113", "Cell000231")
SLOT_S: Final = 600.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Trace:
    """Users of contiguous slots, NaN where unknown, and how they are cut into intervals."""

    name: str
    kind: str
    first_slot: int
    users: Floats
    grid: Grid
    place: tuple[str, str] | None = None
    """Time zone and country for day types, where they are known."""

    @property
    def slots(self) -> int:
        """Return the slots of an interval."""
        return round(self.grid.interval_s / self.grid.slot_s)

    @property
    def first(self) -> int:
        """Return the number of the first interval."""
        return self.first_slot // self.slots

    @cached_property
    def means(self) -> Floats:
        """Return the mean users of each interval; all slots of one are known, or it is not."""
        return self.users.reshape(-1, self.slots).mean(axis=1)

    def intervals_in(self, hours: int) -> int:
        """Return how many intervals there are in so many hours."""
        return round(hours * HOUR_S / self.grid.interval_s)

    def slots_of(self, interval: int) -> Iterator[tuple[float, float]]:
        """Yield time and users of the known slots of an interval."""
        begin = (interval - self.first) * self.slots
        for offset, users in enumerate(self.users[begin : begin + self.slots].tolist()):
            if not np.isnan(users):
                yield (interval * self.slots + offset) * self.grid.slot_s, users


def measured(data: Path) -> list[Trace]:
    """Return all traces of the data folder.

    Raises:
        ClickException: a file is missing.
    """
    milan = {square: data / "milan" / f"ts_full_square_{square}.csv" for square in SQUARES}
    lte = {cell: [data / "lte" / f"{part}_{cell}.csv" for part in ("train", "test")] for cell in CELLS}
    missing = [
        path for path in [*milan.values(), *(p for paths in lte.values() for p in paths)] if not path.exists()
    ]
    if missing:
        names = ", ".join(str(path.relative_to(data)) for path in missing)
        raise click.ClickException(f"missing in the data folder: {names}; name the folder in MICROOPT_DATA")
    found = [_milan(square, path, interval_s) for interval_s in (SLOT_S, HOUR_S) for square, path in milan.items()]
    return found + [_lte(cell, paths) for cell, paths in lte.items()]


def made_up(days: int = 16) -> list[Trace]:
    """Return two short traces with days and weeks, for trying things out."""
    rng = np.random.default_rng(5)
    hour = np.arange(days * 144) / 6.0
    shape = (1.2 + np.sin(2.0 * np.pi * (hour % 24.0 - 8.0) / 24.0)) * np.where(hour // 24 % 7 >= 5, 0.6, 1.0)
    users = 100.0 * shape * np.exp(rng.normal(0.0, 0.1, len(shape)))
    first = 2_000_016  # midnight
    hourly = users.reshape(-1, 6).mean(axis=1)
    hourly[-5] = np.nan
    return [
        Trace("made-up-hourly", "milan-hourly", first, users, Grid(SLOT_S, HOUR_S, DAY_S)),
        Trace("made-up-lte", "lte", first // 6, hourly, Grid(HOUR_S, HOUR_S, DAY_S)),
    ]


def _milan(square: int, path: Path, interval_s: float) -> Trace:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(int(row["time_ms"]) / 1000.0, float(row["internet"])) for row in csv.DictReader(file)]
    kind = "milan-hourly" if interval_s == HOUR_S else "milan-10min"
    name = f"milan-{square}-{'hourly' if interval_s == HOUR_S else '10min'}"
    return _trace(name, kind, rows, Grid(SLOT_S, interval_s, DAY_S), ("Europe/Rome", "IT-MI"))


def _lte(cell: str, paths: list[Path]) -> Trace:
    """Return one cell; its local times are read as if they were UTC, an hour that is there twice counts once."""
    rows = []
    for path in paths:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                if row["Traffic"]:
                    time = datetime.strptime(row["DateTime"], "%m/%d/%Y %H:%M").replace(tzinfo=UTC)
                    rows.append((time.timestamp(), float(row["Traffic"])))
    return _trace(f"lte-{cell}", "lte", rows, Grid(HOUR_S, HOUR_S, DAY_S), None)


def _trace(
    name: str, kind: str, rows: list[tuple[float, float]], grid: Grid, place: tuple[str, str] | None
) -> Trace:
    """Return the whole intervals from the first row to the last; what is in no row is unknown."""
    numbers = np.array([round(time / grid.slot_s) for time, _ in rows])
    slots = round(grid.interval_s / grid.slot_s)
    first, end = numbers.min() // slots * slots, (numbers.max() + 1) // slots * slots
    users = np.full(end - first, np.nan)
    for number, (_, value) in zip(numbers.tolist(), rows, strict=True):
        if number < end:
            users[number - first] = value
    return Trace(name, kind, int(first), users, grid, place)
