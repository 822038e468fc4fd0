"""`microopt reproduce`: the paper's tables and figures, computed anew."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

import click
import torch
from msgspec.structs import replace
from rich.console import Console

from microopt.errors import ConfigError, MicrooptError
from microopt_optimizer.slice_model.dataset_csv import SETTLE_S
from microopt_testbed.experiments import (
    fig4,
    fig6,
    fig7,
    fig9,
    fig10,
    fig10_live,
    page,
    sensitivity,
    sources,
    table1,
)
from microopt_testbed.experiments.approaches import available
from microopt_testbed.experiments.lab import Lab
from microopt_testbed.experiments.models import Preset
from microopt_testbed.experiments.page import Section
from microopt_testbed.experiments.runner import Runner
from microopt_testbed.experiments.settings import FULL, MICROOPT, QUICK, SOLVERS, Scale
from microopt_testbed.experiments.sources import Source
from microopt_testbed.live.play import QUICK as QUICK_PLAY
from microopt_testbed.live.play import Pace
from microopt_testbed.live.report import print_outcome
from microopt_testbed.traffic import data_folder

Make = Callable[[Lab], Section]

TITLES: Final[dict[Make, str]] = {
    fig4.make: "Figure 4: slice model",
    table1.make: "Table I: constant traffic",
    fig6.make: "Figure 6: constant traffic, all thresholds",
    sensitivity.make: "Figure 6 on other slice models",
    fig7.make: "Figures 5, 7 and 8: traffic that varies",
    fig9.make: "Figure 9: scalar QoS in place of a distribution",
    fig10.make: "Figure 10: on the emulated testbed",
}
EXPERIMENTS: Final[dict[str, tuple[Make, ...]]] = {
    "fig4": (fig4.make,),
    "table1": (table1.make,),
    "fig6": (fig6.make, sensitivity.make),
    "fig7": (fig7.make,),
    "fig8": (fig7.make,),
    "fig9": (fig9.make,),
    "fig10": (fig10.make,),
    "all": tuple(TITLES),
}


_MOST_JOBS: Final = 8

HELP: Final = """Compute tables and figures of the paper anew, and set the paper's numbers beside ours.

WHAT is one or more of fig4, table1, fig6, fig7, fig8, fig9, fig10, or all. Everything computed is kept below
--out: after an interruption the same command goes on where it was, and after a change of data, model or code
it computes only what depends on it.

\b
microopt reproduce table1                         one table
microopt reproduce all --results docs/results.md  everything, and the page on it
microopt reproduce all --emulated --quick         needs no data; shows that it runs
microopt reproduce fig10 --live                   from real traffic; see microopt testbed live
"""


@click.command(help=HELP)
@click.argument("what", nargs=-1, required=True, type=click.Choice(list(EXPERIMENTS)))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the authors' data set and the Milan traces.  [default: MICROOPT_DATA, else ../shared/data]",
)
@click.option("--emulated", is_flag=True, help="Train on a sweep of the emulated slice; needs no data.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/reproduce"),
    show_default=True,
    help="For csv files, pictures, models, results.md, and what was computed before.",
)
@click.option(
    "--results", type=click.Path(path_type=Path, dir_okay=False), help="Write the results page here too."
)
@click.option(
    "--model",
    type=click.Choice(get_args(Preset)),
    default="paper",
    show_default=True,
    help="Compare on the paper's architecture or on the shipped default.",
)
@click.option(
    "--approaches",
    metavar="NAME,...",
    help=f"Run only these, and the oracle, of {', '.join(SOLVERS)}.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a CPU core, at most 8]")
@click.option(
    "--settle-s",
    type=click.FloatRange(min=0),
    default=SETTLE_S,
    show_default=True,
    help="Seconds of measurements to drop after each change of resources.",
)
@click.option(
    "--live",
    type=click.Path(path_type=Path, file_okay=False),
    is_flag=False,
    flag_value=Path("var/live"),
    help="With fig10 alone: from real traffic, with the measurements and the model in this folder.  "
    "[default: var/live]",
)
@click.option(
    "--quick", is_flag=True, help="Few settings, hardly trained models: only shows that everything runs."
)
def reproduce(
    what: tuple[str, ...],
    data: Path | None,
    emulated: bool,
    out: Path,
    results: Path | None,
    model: Preset,
    approaches: str | None,
    jobs: int | None,
    settle_s: float,
    live: Path | None,
    quick: bool,
) -> None:
    """Compute tables and figures of the paper anew, and set the paper's numbers beside ours."""
    console = Console(stderr=True)
    if live is not None:
        _live(what, live, [out / fig10_live.PAGE, *([results] if results else [])], quick, console)
        return
    torch.set_num_threads(1)
    scale = _scale(QUICK if quick else FULL, approaches)
    folder = data or data_folder()
    pages = [out / "results.md", *([results] if results else [])]
    try:
        source = sources.emulated(scale.sweep_samples) if emulated else sources.locate(folder, settle_s=settle_s)
        with Runner(jobs or min(_MOST_JOBS, os.cpu_count() or 1), console) as run:
            lab = _lab(out, scale, source, folder, model, run)
            _report_missing(lab, console)
            sections = _make(lab, what, console)
        command = _command(what, emulated, model, approaches, settle_s, quick)
        for path in pages:
            page.write(lab, command, sections, path)
            click.echo(f"wrote {path}")
    except MicrooptError as error:
        raise click.ClickException(str(error)) from error


def _live(what: tuple[str, ...], folder: Path, pages: list[Path], quick: bool, console: Console) -> None:
    if what != ("fig10",):
        raise click.UsageError("--live is for fig10: microopt reproduce fig10 --live")
    try:
        outcome = fig10_live.make(folder, pages, QUICK_PLAY if quick else Pace(), console)
    except MicrooptError as error:
        raise click.ClickException(str(error)) from error
    print_outcome(outcome, console)
    for path in pages:
        click.echo(f"wrote {path}")
    raise SystemExit(1 if outcome.problems else 0)


def _make(lab: Lab, what: tuple[str, ...], console: Console) -> dict[str, Section]:
    """Run the experiments asked for, each once, in the order of the page."""
    wanted = {make for name in what for make in EXPERIMENTS[name]}
    sections = {}
    for make, title in TITLES.items():
        if make in wanted:
            console.print(f"{title} ...", highlight=False)
            sections[title] = make(lab)
    return sections


def _scale(scale: Scale, approaches: str | None) -> Scale:
    if approaches is None:
        return scale
    names = tuple(name.strip() for name in approaches.split(",") if name.strip())
    unknown = sorted(set(names) - set(SOLVERS))
    if unknown:
        raise click.BadParameter(
            f"{', '.join(unknown)}: choose of {', '.join(SOLVERS)}", param_hint="--approaches"
        )
    if MICROOPT not in names:
        raise click.BadParameter(
            f"{MICROOPT} must be among them: the others are compared with it", param_hint="--approaches"
        )
    return replace(scale, solvers=names)


def _lab(out: Path, scale: Scale, source: Source, milan: Path, model: Preset, run: Runner) -> Lab:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}") from error
    return Lab(
        out=out,
        scale=scale,
        source=source,
        milan=milan,
        main_preset=model,
        available=available(scale.solvers),
        run=run,
    )


def _report_missing(lab: Lab, console: Console) -> None:
    for name, why in lab.available.missing.items():
        console.print(f"left out {name}: {why}", highlight=False)
    for name in sources.changed_files(lab.source):
        console.print(
            f"{name} is not, byte for byte, what the authors published; going on with it", highlight=False
        )


def _command(
    what: tuple[str, ...], emulated: bool, model: Preset, approaches: str | None, settle_s: float, quick: bool
) -> str:
    """Return the command line that gives the same page, without its paths."""
    options = [
        (emulated, "--emulated"),
        (model != "paper", f"--model {model}"),
        (approaches is not None, f"--approaches {approaches}"),
        (settle_s != SETTLE_S, f"--settle-s {settle_s:g}"),
        (quick, "--quick"),
    ]
    return " ".join(["microopt reproduce", *what, *(text for given, text in options if given)])
