"""`make bench-solver`: measure the production solver beside its peers; see ../README.md."""

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import machine
import msgspec
import slice_model
import torch
from rich.console import Console
from rich.status import Status

from microopt import log
from microopt.settings import LogSettings
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.registry import SOLVERS
from solver import joint, settings, single, suite, table
from solver.peers import PEERS, Peer, microopt_paper
from solver.sizes import QUICK, WHOLE, Sizes

FOLDER = Path(__file__).parents[1]
RESULTS = FOLDER / "results" / "solver.json"
README = FOLDER / "README.md"
KEPT = FOLDER.parent / "var" / "bench"  # of quick runs and of models that take long to train
BEGIN, END = "<!-- solver: begin -->", "<!-- solver: end -->"


@click.command()
@click.option("--quick", is_flag=True, help="Only try that everything works; the numbers mean little.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of solver.json.")
@click.option(
    "--only", type=click.Choice(["single", "suite", "joint"]), help="Print one part; results/ stays as it is."
)
@click.option(
    "--readme", is_flag=True, help="Measure nothing; write the tables of results/solver.json to README.md."
)
def main(quick: bool, out: Path | None, only: str | None, readme: bool) -> None:
    """Measure, print tables, and write solver.json."""
    console = Console()
    if readme:
        _refresh(README, msgspec.json.decode(RESULTS.read_bytes()))
        return
    log.configure(LogSettings(level="warning"), agent="bench")
    torch.set_num_threads(1)
    sizes = QUICK if quick else WHOLE
    model, source = slice_model.train(quick=quick, console=console)
    about = {"model": source, "machine": machine.describe(), "versions": _versions(), "quick": quick}
    results: dict[str, Any] = {}
    with console.status("") as status:
        for part, measured in _parts(sizes, model, _peers(sizes), only, status):
            results[part] = measured
            _write(KEPT / "solver.partial.json", {**results, **about})
    if only is not None:
        console.print_json(data=results[only])
        return
    path = (out or (KEPT if quick else RESULTS.parent)) / "solver.json"
    _write(path, {**results, **about})
    console.print(table.on_terminal(results))
    console.print(f"slice model of {source}; written to {os.path.relpath(path)}", highlight=False)


def _parts(
    sizes: Sizes, model: TrainedModel, peers: Mapping[str, Peer], only: str | None, status: Status
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each part that was asked for when it is measured: the whole takes long, and a later one may fail."""
    if only in (None, "single"):
        chosen = settings.constant(model.name)[:: sizes.every]
        yield "single", single.measure(chosen, model, peers, lines=sizes.lines, step=_says(status, "single"))
    if only in (None, "suite"):
        yield "suite", suite.measure(sizes, peers, _says(status, "suite"))
    if only in (None, "joint"):
        yield "joint", joint.measure(sizes, KEPT, _says(status, "joint"))


def _write(path: Path, results: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def _peers(sizes: Sizes) -> dict[str, Peer]:
    """Return the peers, each as quick as the sizes say.

    Raises:
        ClickException: the paper's optimizer is not there to compare with.
    """
    if microopt_paper.NAME not in SOLVERS:
        raise click.ClickException(f"there is no optimizer {microopt_paper.NAME!r} in solver/registry.py")
    return {**PEERS, **sizes.quicker}


def _says(status: Status, part: str):
    return lambda what: status.update(f"{part}: {what}")


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("botorch", "cma", "gpytorch", "numpy", "scipy")}


def _refresh(path: Path, results: Mapping[str, Any]) -> None:
    """Replace what stands between the marks by the tables of the results."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise click.ClickException(f"{path}: has no lines {BEGIN!r} and {END!r}")
    path.write_text(f"{before}{BEGIN}\n\n{table.as_markdown(results)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
