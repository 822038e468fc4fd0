"""`microopt testbed live`: measuring slices of real packets on this machine, and closing the loop on them."""

import asyncio
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from microopt import log
from microopt.errors import MicrooptError
from microopt.settings import LogSettings
from microopt_testbed.live import collect as collecting
from microopt_testbed.live import pcap
from microopt_testbed.live.collect import DATA, TRAIN, Pace
from microopt_testbed.live.dash import segments_bits
from microopt_testbed.live.lab import LabSettings
from microopt_testbed.live.loop_plan import SLICES
from microopt_testbed.live.play import MODEL_FILE, play
from microopt_testbed.live.play import Pace as PlayPace
from microopt_testbed.live.report import print_outcome
from microopt_testbed.traffic import data_folder

_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/live"),
    show_default=True,
    help="For measurements, slice model, results and logs.",
)


def _recordings(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, pcap.Recording]:
    """Read what --replay names."""
    found = {}
    for text in given:
        name, equals, file = text.partition("=")
        if name not in SLICES or not equals:
            raise click.BadParameter(f"{text!r}: write SLICE=FILE, the slice being one of {', '.join(SLICES)}")
        found[name] = _recording(file)
    return found


def _recording(file: str) -> pcap.Recording:
    try:
        return pcap.read(Path(file))
    except MicrooptError as error:
        raise click.BadParameter(str(error)) from error


_replay = click.option(
    "--replay",
    "recordings",
    metavar="SLICE=FILE",
    multiple=True,
    callback=_recordings,
    help="Send this slice's UEs the packets of a capture (pcap) instead of videos; may be given for each slice.",
)


@click.group()
def live() -> None:
    """Slices of real packets, queues and CPU limits on this machine; needs root, iproute2 and Open vSwitch.

    Nothing of them is left when a command ends, however it ends.
    """


@live.command()
@_folder
@click.option(
    "--replay",
    "recording",
    metavar="FILE",
    callback=lambda _, __, file: _recording(file) if file else (),
    help="Send UEs the packets of a capture (pcap) instead of videos; into a folder of its own.",
)
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
def collect(
    folder: Path, recording: pcap.Recording, slots: int, settle_s: float, slot_s: float, every: int
) -> None:
    """Measure a slice over a grid of users, bandwidth and CPU, as much of it as --folder lacks."""
    console = Console(stderr=True)
    log.configure(LogSettings(level="warning"), agent="testbed")
    settings = LabSettings(
        slices=SLICES,
        segments_bits=segments_bits(data_folder()),
        slot_s=slot_s,
        recordings=dict.fromkeys(SLICES, recording),
    )
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
    click.echo(f"microopt train --data {folder / DATA} --config {folder / TRAIN} --out {folder / MODEL_FILE}")


@live.command()
@_folder
@_replay
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object last, on stdout.")
@click.option("--intervals", default=9, show_default=True, type=click.IntRange(2, 1000), help="Of each phase.")
@click.option("--slots", default=20, show_default=True, type=click.IntRange(6, 1000), help="Of each interval.")
@click.option("--slot-s", default=1.0, show_default=True, type=click.FloatRange(0.1, 60.0))
@click.option("--pairs", default=9, show_default=True, type=click.IntRange(1, 9), help="The first of the paper's.")
def run(
    folder: Path,
    recordings: dict[str, pcap.Recording],
    as_json: bool,
    intervals: int,
    slots: int,
    slot_s: float,
    pairs: int,
) -> None:
    """Hold live slices to their SLAs by the real agents, for the paper's pairs of thresholds.

    --folder has what `collect` measured and `model.safetensors`, which `microopt train` made of it. Exit
    status 1: an SLA was missed by more than 0.03, or an allocation did not become effective.
    """
    console = Console(stderr=as_json)
    pace = PlayPace(pairs=pairs, intervals=intervals, slots_per_interval=slots, slot_s=slot_s)
    try:
        with Progress(console=console) as bar:
            task = bar.add_task("playing", total=1.0)
            outcome = play(folder, pace, lambda share: bar.update(task, completed=share), recordings)
    except MicrooptError as error:
        raise click.ClickException(str(error)) from error
    print_outcome(outcome, console)
    if as_json:
        click.echo(msgspec.json.encode(outcome).decode())
    raise SystemExit(1 if outcome.problems else 0)
