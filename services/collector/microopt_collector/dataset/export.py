"""From the telemetry of one slice on the bus to a file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Final

from microopt.bus import Bus
from microopt.errors import ConfigError
from microopt.messages import Telemetry
from microopt_collector.dataset import stored
from microopt_collector.dataset.by_time import ByTime
from microopt_collector.dataset.columns import Columns
from microopt_collector.dataset.files import Format
from microopt_collector.dataset.rows import Row
from microopt_collector.dataset.window import Window

LOOK_BACK_S: Final = 3600.0
"""How long before the window is read as well, to know what was in force when it begins."""

SHOWN: Final = "%Y-%m-%d %H:%M:%S"


@dataclass
class Written:
    """What a file got: how many rows of each quality, how many of them transient, from when to when."""

    qualities: Counter[str] = field(default_factory=Counter)
    transient: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def note(self, row: Row) -> Row:
        """Count `row` and return it."""
        self.qualities[row.telemetry.quality] += 1
        self.transient += row.transient
        self.first, self.last = self.first or row.telemetry.time, row.telemetry.time
        return row

    @property
    def text(self) -> str:
        """Return in words what was written."""
        if self.first is None or self.last is None:
            return "no rows"
        counts = ", ".join(
            f"{self.qualities[quality]:,} {quality}" for quality in ("complete", "partial", "missing")
        )
        return (
            f"{self.qualities.total():,} rows from {self.first:{SHOWN}} to {self.last:{SHOWN}} UTC: "
            f"{counts}; {self.transient:,} of them transient"
        )


@dataclass(frozen=True)
class Filter:
    """Which rows are left out."""

    complete_only: bool = False
    settled_only: bool = False

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows that stay."""
        for row in rows:
            if self.complete_only and row.telemetry.quality != "complete":
                continue
            if self.settled_only and row.transient:
                continue
            yield row


async def gather(
    bus: Bus, slice: str, window: Window, settle_s: float, into: ByTime, progress: Callable[[int], None]
) -> tuple[Columns, stored.Reading]:
    """Put the slice's telemetry of `window`, and that from a while before, `into` the order of its time.

    Raises:
        ConfigError: there is none in the window.
    """
    since = window.start - timedelta(seconds=settle_s + LOOK_BACK_S)
    columns, found = Columns(), 0

    def take(slot: Telemetry, data: bytes) -> None:
        nonlocal found
        if not since <= slot.time < window.end:
            return
        into.put(slot, data)
        if slot.time >= window.start:
            columns.note(slot)
            found += 1

    reading = await stored.read(bus, slice, since, take, progress)
    if not found:
        others = (
            f"; the {reading.read:,} slots of it that were stored since are of other times" if reading.read else ""
        )
        raise ConfigError(
            f"no telemetry of slice {slice} from {window.start:{SHOWN}} to {window.end:{SHOWN}} UTC{others}"
        )
    return columns, reading


def write(out: Path, form: Format, columns: Columns, rows: Iterator[Row]) -> None:
    """Write the file at once: where writing fails, a former file stays as it was.

    Raises:
        ConfigError: it cannot be written, or there are no rows.
    """
    if (first := next(rows, None)) is None:
        raise ConfigError(f"{out} was not written: no slot is left; try a longer window or fewer --...-only")
    header, cells = columns.header, columns.cells()
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        form.write(unfinished, header, map(cells, chain([first], rows)))
        unfinished.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
