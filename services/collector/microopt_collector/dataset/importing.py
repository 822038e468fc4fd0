"""From the rows of a file to telemetry on the bus."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

from microopt import desired
from microopt.bus import Bus
from microopt.errors import ConfigError
from microopt.messages import Telemetry
from microopt.specs import SliceSpec
from microopt_collector.dataset import mapping, stored
from microopt_collector.dataset.files import Line, Table
from microopt_collector.dataset.history import Reason, RowError, Rows
from microopt_collector.dataset.mapping import Wanted
from microopt_collector.dataset.seen import Seen

IN_FLIGHT: Final = 256


@dataclass
class Imported:
    """What became of a file's rows."""

    rows: int = 0
    new: int = 0
    there: int = 0
    """Slots that the bus had already."""
    skipped: Counter[Reason] = field(default_factory=Counter)
    first: dict[Reason, str] = field(default_factory=dict)
    """The first row that was skipped for each reason: where it stands, and why."""
    ignored: list[str] = field(default_factory=list)

    def skip(self, place: str, error: RowError) -> None:
        """Count a row that cannot be imported."""
        self.skipped[error.reason] += 1
        self.first.setdefault(error.reason, f"{place}: {error}")

    @property
    def lines(self) -> list[str]:
        """Return in words what became of them."""
        columns = ", ".join(map(repr, self.ignored))
        return [
            f"{self.rows:,} rows: {self.new:,} slots imported, {self.there:,} were there already, "
            f"{self.skipped.total():,} rows skipped",
            *(f"  {count:,} {reason}, first {self.first[reason]}" for reason, count in self.skipped.most_common()),
            *([f"  columns that were not read: {columns}"] if columns else []),
        ]


async def run(
    bus: Bus, slice: str, path: Path, table: Table, wanted: Wanted, progress: Callable[[int], None]
) -> Imported:
    """Import a file as the history of `slice`.

    Raises:
        ConfigError: there is no such slice, or the file's columns or slots are not what is wanted.
        TemporaryError: the bus did not take it all; what it took is not imported again.
    """
    spec = await _spec(bus, slice)
    fields = mapping.fields_of(path, table, spec, wanted)
    mapping.require_slots(path, table, fields, spec, wanted.slot_s)
    result = Imported(ignored=mapping.ignored(table, fields))
    rows = Rows(spec, fields, datetime.now(UTC))
    slots = _slots(table.rows(fields.columns), rows, result, progress)
    if (first := next(slots, None)) is not None:
        seen = await _seen(bus, spec, first.time)
        await _publish(bus, _unseen(chain([first], slots), seen, result), result)
    return result


async def _spec(bus: Bus, slice: str) -> SliceSpec:
    if (spec := await desired.get(bus, SliceSpec, slice)) is not None:
        return spec
    known, _ = await desired.get_all(bus, SliceSpec)
    raise ConfigError(f"unknown slice {slice}; slices: {', '.join(known) or 'none'}; see `microopt apply`")


def _slots(
    lines: Iterable[Line], rows: Rows, result: Imported, progress: Callable[[int], None]
) -> Iterator[Telemetry]:
    """Yield the telemetry of all rows that can be imported, and count the others."""
    for line in lines:
        result.rows += 1
        progress(result.rows)
        try:
            slot = rows.read(line.cells)
        except RowError as error:
            result.skip(line.place, error)
        else:
            yield slot


async def _seen(bus: Bus, spec: SliceSpec, since: datetime) -> Seen:
    """Return what the bus has of the slice `since` the file's first slot; its slots only come later."""
    seen = Seen(spec.slot_s)
    await stored.read(bus, spec.slice, since, lambda slot, _: seen.note(slot), lambda _: None)
    return seen


def _unseen(slots: Iterable[Telemetry], seen: Seen, result: Imported) -> Iterator[Telemetry]:
    for slot in slots:
        if seen.has(slot):
            result.there += 1
        else:
            yield slot


async def _publish(bus: Bus, slots: Iterable[Telemetry], result: Imported) -> None:
    """Publish all `slots`, at most `IN_FLIGHT` of them without an answer at any time."""
    waiting: deque[asyncio.Task[bool]] = deque()

    async def settle_one() -> None:
        new = await waiting.popleft()
        result.new += new
        result.there += not new

    try:
        for slot in slots:
            if len(waiting) >= IN_FLIGHT:
                await settle_one()
            waiting.append(asyncio.create_task(bus.publish(slot)))
        while waiting:
            await settle_one()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
