"""`microopt testbed live`: measuring slices of real packets on this machine, and closing the loop on them."""

import asyncio
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from microopt import log
from microopt.errors import MicrooptError
from microopt.settings import LogSettings
from microopt_testbed.live import collect as collecting
from microopt_testbed.live.collect import DATA, TRAIN, Pace
from microopt_testbed.live.dash import segments_bits
from microopt_testbed.live.lab import LabSettings
from microopt_testbed.traffic import data_folder

SLICES = ("1-000001", "1-000002")

_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/live"),
    show_default=True,
    help="For measurements, slice model, results and logs.",
)


@click.group()
def live() -> None:
    """Slices of real packets, queues and CPU limits on this machine; needs root, iproute2 and Open vSwitch.

    Nothing of them is left when a command ends, however it ends.
    """


@live.command()
@_folder
@click.option("--slots", default=6, show_default=True, type=click.IntRange(1, 1000), help="Slots of each cell.")
@click.option(
    "--settle-s",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0.0, 60.0),
    help="Seconds after a change that are not recorded.",
)
@click.option("--slot-s", default=1.0, show_default=True, type=click.FloatRange(0.1, 60.0))
@click.option("--every", default=1, show_default=True, type=click.IntRange(1, 4), help="Thin the grid out.")
def collect(folder: Path, slots: int, settle_s: float, slot_s: float, every: int) -> None:
    """Measure a slice over a grid of users, bandwidth and CPU, as much of it as --folder lacks."""
    console = Console(stderr=True)
    log.configure(LogSettings(level="warning"), agent="testbed")
    settings = LabSettings(slices=SLICES, segments_bits=segments_bits(data_folder()), slot_s=slot_s)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("fitting the scale", total=None)

        def follow(done: int, total: int) -> None:
            bar.update(task, description="cells", advance=done, total=total)

        try:
            asyncio.run(
                collecting.collect(settings, folder, Pace(slots=slots, settle_s=settle_s), follow, every=every)
            )
        except MicrooptError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"microopt train --data {folder / DATA} --config {folder / TRAIN} --out {folder}/model.safetensors")
