"""`microopt dataset`: telemetry to a file for training, and history from a file to telemetry."""

import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from microopt.cli.connection import with_bus
from microopt.errors import ConfigError
from microopt.ids import slice_id
from microopt_collector.dataset import export as exporting
from microopt_collector.dataset import importing
from microopt_collector.dataset.by_time import ByTime
from microopt_collector.dataset.files import format_of
from microopt_collector.dataset.mapping import Wanted
from microopt_collector.dataset.rows import SETTLE_S, rows
from microopt_collector.dataset.window import window

PROGRESS_S: Final = 5.0

SLICE = click.option("--slice", "slice_", required=True, metavar="S", help="The slice, such as 1-000001.")


@click.group()
def dataset() -> None:
    """Write a slice's telemetry to a file for training, or import its history from one (csv or parquet)."""


@dataset.command("export")
@SLICE
@click.option(
    "--from", "start", required=True, metavar="TIME", help="2026-01-31T08:00:00Z, a date (UTC), or -24h, -7d."
)
@click.option("--to", "end", default="now", show_default=True, metavar="TIME", help="The same; not included.")
@click.option(
    "--settle-s",
    type=click.FloatRange(min=0, max=86_400.0),
    default=SETTLE_S,
    show_default=True,
    help="How long slots are transient after a change of the allocation, or a gap.",
)
@click.option("--complete-only", is_flag=True, help="Leave out slots that are missing or partial.")
@click.option("--settled-only", is_flag=True, help="Leave out transient slots.")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def export(
    slice_: str, start: str, end: str, settle_s: float, complete_only: bool, settled_only: bool, out: Path
) -> None:
    """Write the telemetry of one slice to OUT (.csv or .parquet), one row a slot, ready for `microopt train`."""
    form, wanted = format_of(out), window(start, end, datetime.now(UTC))
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: there is no folder {out.parent}")
    name, shown, written = slice_id(slice_), Progress("slots read"), exporting.Written()
    with ByTime() as slots:
        columns, reading = with_bus(lambda bus: exporting.gather(bus, name, wanted, settle_s, slots, shown.at))
        chosen = exporting.Filter(complete_only, settled_only)(rows(slots, wanted.start, settle_s))
        exporting.write(out, form, columns, map(written.note, chosen))
    click.echo(f"{out}: {written.text}")
    click.echo(f"resources: {', '.join(columns.resources) or 'none, as no telemetry has an allocation'}")
    if reading.invalid:
        click.echo(f"{reading.invalid:,} of {reading.read:,} stored messages cannot be read and were left out")


def _zone(context: click.Context, option: click.Parameter, name: str | None) -> tzinfo | None:
    if name is None or name.upper() == "UTC":  # known without a time zone database
        return UTC if name else None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise click.BadParameter(f"{name!r}: write UTC, or a zone such as Europe/Rome") from error


def _resources(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise click.BadParameter(f"{name!r}: write NAME=COLUMN, such as gnb_cpu=cpu")
    return {name: column for name, _, column in pairs}


@dataset.command("import")
@SLICE
@click.option("--time-column", default="time", show_default=True, help="ISO 8601, or seconds since 1970.")
@click.option("--users-column", help="[default: users, if there]")
@click.option("--qos-column", help="[default: qos, if there]")
@click.option(
    "--qos-scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="What the QoS is multiplied with; 1e-6 turns bit/s into Mbit/s.",
)
@click.option(
    "--resource",
    "resources",
    multiple=True,
    callback=_resources,
    metavar="NAME=COLUMN",
    help="The column of what was allocated of a resource.  [default: the column called like it, if there]",
)
@click.option("--zone", callback=_zone, help="The zone of times that name none, such as UTC.")
@click.option(
    "--slot-s",
    type=click.FloatRange(min=0, min_open=True),
    help="How long the file's slots are.  [default: the usual step between its rows]",
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_(
    slice_: str,
    time_column: str,
    users_column: str | None,
    qos_column: str | None,
    qos_scale: float,
    resources: dict[str, str],
    zone: tzinfo | None,
    slot_s: float | None,
    file: Path,
) -> None:
    """Bring the history of one slice from FILE (.csv or .parquet) onto the bus, as telemetry.

    Rows that cannot be imported are counted by reason and skipped. What the bus has is not imported again.
    """
    name, table, shown = slice_id(slice_), format_of(file).open(file, time_column), Progress("rows done")
    wanted = Wanted(
        time=time_column,
        users=users_column,
        qos=qos_column,
        qos_scale=qos_scale,
        resources=resources,
        zone=zone,
        slot_s=slot_s,
    )
    result = with_bus(lambda bus: importing.run(bus, name, file, table, wanted, shown.at))
    for line in result.lines:
        click.echo(line)
    if not result.new and not result.there:
        raise ConfigError(f"{file}: nothing could be imported")


class Progress:
    """Says on stderr how far a long command is, every few seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next_s = time.monotonic() + PROGRESS_S

    def at(self, count: int) -> None:
        """Say that `count` are done, unless that was said just now."""
        if time.monotonic() >= self._next_s:
            click.echo(f"{count:,} {self._what}", err=True)
            self._next_s = time.monotonic() + PROGRESS_S
