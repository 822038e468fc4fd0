"""`microopt forecast`: what the forecaster expected, and how it turned out."""

import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from microopt.cli.connection import with_bus
from microopt.cli.times import time_of
from microopt.errors import ConfigError
from microopt.ids import slice_id
from microopt_forecaster.show.drawing import draw, signs_for
from microopt_forecaster.show.reading import MOST, gather
from microopt_forecaster.show.rows import Report

SHOWN: Final = 24
FORMATS: Final = ("png", "svg")


@click.group()
def forecast() -> None:
    """Show what traffic was expected of a slice, what came, and how far to trust it."""


@forecast.command("show")
@click.argument("slice_", metavar="SLICE")
@click.option("--last", type=click.IntRange(1, MOST), help=f"How many intervals, newest last.  [default: {SHOWN}]")
@click.option(
    "--from", "start", metavar="TIME", help="From when on: 2026-01-31T08:00:00Z, a date (UTC), -24h, -7d."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Also a picture: FILE.png or FILE.svg."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a drawing.")
def show(slice_: str, last: int | None, start: str | None, out: Path | None, as_json: bool) -> None:
    """Draw the last intervals of SLICE: what was expected, within which band, and what was observed."""
    if last and start:
        raise click.UsageError("--last and --from exclude each other")
    if out:
        _check(out)
    name, now = slice_id(slice_), datetime.now(UTC)
    since = time_of(start, now, "--from") if start else None
    report = with_bus(lambda bus: gather(bus, name, now, last=last or SHOWN, start=since))
    if out:
        _write(out, report)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        _print(report)


def _print(report: Report) -> None:
    colour = False if os.environ.get("NO_COLOR") else None  # None: where it is a terminal
    for line in draw(report, shutil.get_terminal_size().columns, signs_for(sys.stdout.encoding)):
        click.echo(line, color=colour)


def _check(out: Path) -> None:
    if out.suffix.lower().removeprefix(".") not in FORMATS:
        raise ConfigError(
            f"--out {out}: not a picture that can be written; call it {out.stem}.png or {out.stem}.svg"
        )
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def _write(out: Path, report: Report) -> None:
    try:
        from microopt_forecaster.show.picture import picture
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--out needs matplotlib ({error.name} is not installed): pip install 'microopt[testbed]'"
        ) from error
    try:
        out.write_bytes(picture(report, out.suffix.lower().removeprefix(".")))
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error}") from error
    click.echo(f"{out}: {len(report.rows)} intervals", err=True)
