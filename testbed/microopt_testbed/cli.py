"""`microopt demo` and `microopt testbed`."""

import asyncio
import signal
import tempfile
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.live import Live

from microopt import log
from microopt.errors import MicrooptError
from microopt.settings import LogSettings
from microopt_testbed import sweep as sweeping
from microopt_testbed.demo import effects, model, plot, report, summary
from microopt_testbed.demo.model import DemoModel
from microopt_testbed.demo.run import Demo, DemoRun
from microopt_testbed.demo.scenario import SQUARES, Scenario
from microopt_testbed.demo.summary import Summary
from microopt_testbed.live.cli import live
from microopt_testbed.traffic import data_folder, trace_path

REFRESH_S = 0.5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object last, on stdout.")
@click.option("--intervals", default=24, show_default=True, type=click.IntRange(4, 24), help="Intervals to play.")
@click.option("--interval-s", default=5.0, show_default=True, type=click.FloatRange(1.0, 3600.0))
@click.option("--auditor", is_flag=True, help="Let margins adapt to what is realised; intervals are judged.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/demo"),
    show_default=True,
    help="For the slice model, the picture and the agents' logs.",
)
def demo(as_json: bool, intervals: int, interval_s: float, auditor: bool, folder: Path) -> None:
    """Hold two emulated slices to their SLAs over a day, with the real agents on a real broker.

    An optimizer is swapped and one is killed on the way. Exit status 1: the loop did not work.
    """
    console = Console(stderr=as_json)
    folder.mkdir(parents=True, exist_ok=True)
    plan = Scenario(intervals=intervals, interval_s=interval_s, audited=auditor)
    for old in folder.glob("*.log"):
        old.unlink()
    with (folder / "demo.log").open("a", encoding="utf-8") as events:
        log.configure(LogSettings(format="json"), agent="demo", stream=events)
        try:
            prepared = model.prepare(folder, console)
            result = _play(plan, prepared, folder, console)
        except MicrooptError as error:
            raise click.ClickException(str(error)) from error
        except asyncio.CancelledError as error:
            raise click.ClickException("ended by a signal before the day was over") from error
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
    raise SystemExit(1 if result.problems else 0)


def _play(plan: Scenario, prepared: DemoModel, folder: Path, console: Console) -> Summary:
    peak = model.peak_allocation(prepared.model)
    run = DemoRun(plan)
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as store:
        asyncio.run(_with_live_table(Demo(run, prepared.model, peak, folder, Path(store)), run, console))
    days = summary.slice_days(run.record, run.start_s, plan)
    result = summary.summarise(
        run.record,
        plan,
        run.start_s,
        peak,
        model.peak_for_own_slas(prepared.model, plan.qos_margin),
        days,
        effects.with_effects(run.events, run.record, days, run.start_s, plan),
        model=prepared.source,
        traffic=_traffic_source(),
    )
    picture = folder / "demo.png"
    plot.draw(run, days, peak, picture)
    report.print_summary(result, run, console)
    console.print(f"picture: {picture}; logs: {folder}/*.log", highlight=False)
    return result


async def _with_live_table(demo: Demo, run: DemoRun, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as table:
        playing = asyncio.create_task(demo.play(), name="demo")
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
        while not playing.done():
            table.update(report.live(run), refresh=console.is_terminal)
            await asyncio.wait({playing}, timeout=REFRESH_S)
        await playing


def _traffic_source() -> str:
    measured = all(trace_path(data_folder(), square).is_file() for square in SQUARES.values())
    return "Milan traces" if measured else "profile fitted to the Milan traces"


@click.group()
def testbed() -> None:
    """Slices to try microopt on, emulated or live, and measurements of them."""


testbed.add_command(live)


@testbed.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--samples", default=sweeping.SAMPLES, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def sweep(file: Path, samples: int, seed: int) -> None:
    """Measure the emulated slice over the paper's grid and write FILE (csv), ready for `microopt train`."""
    rows = sweeping.sweep(samples=samples, seed=seed)
    sweeping.write_csv(file, rows)
    click.echo(f"wrote {file}: {len(rows)} rows")
