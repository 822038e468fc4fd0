"""Measure and compare; see README.md beside this file for what is measured, and how."""

import os
from pathlib import Path
from typing import Any

import bus
import click
import machine
import msgspec
import slice_model
import solver
import torch
from rich.console import Console
from rich.table import Table

from microopt import log
from microopt.settings import LogSettings

RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = Path("var/bench")  # not measurements: they must not replace those of a whole run


@click.command()
@click.option("--quick", is_flag=True, help="Only try that everything works; the numbers mean little.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the results.")
def main(quick: bool, out: Path | None) -> None:
    """Measure, print a table, and write a JSON file for each benchmark."""
    log.configure(LogSettings(level="warning"), agent="bench")
    torch.set_num_threads(1)
    console = Console()
    folder = out or (QUICK_RESULTS if quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"machine": machine.describe(), "quick": quick}
    with console.status("bus: messages by the SDK and by nats-py"):
        rates = bus.measure(messages=160, rounds=2) if quick else bus.measure(messages=4000, rounds=10)
    _keep(folder / "bus.json", rates, about)
    model, source = slice_model.train(quick=quick, console=console)
    with console.status("solver: the paper's settings by microopt and by a grid"):
        found = solver.measure(model, betas=solver.BETA[:1] if quick else solver.BETA, pairs=1 if quick else 20)
    _keep(folder / "solver.json", found, {**about, "model": source})
    console.print(_table(rates, found))
    console.print(f"slice model of {source}; written to {os.path.relpath(folder)}", highlight=False)


def _keep(path: Path, results: msgspec.Struct, about: dict[str, Any]) -> None:
    data = msgspec.json.encode({**msgspec.to_builtins(results), **about})
    path.write_bytes(msgspec.json.format(data, indent=2) + b"\n")


def _table(rates: bus.Results, found: solver.Results) -> Table:
    table = Table("microopt", "", "beside it", "", "ratio", title="benchmarks")

    def compare(what: str, ours: float, other: str, theirs: float, digits: int) -> None:
        table.add_row(what, f"{ours:.{digits}f}", other, f"{theirs:.{digits}f}", f"{ours / theirs:.3f}")

    rows = f"{rates.sdk_msgs_per_s:.0f}", "nats-py", f"{rates.raw_msgs_per_s:.0f}", f"{rates.ratio:.3f}"
    table.add_row("SDK, messages/s", *rows)
    compare("SDK, CPU µs a message", rates.sdk_cpu_us_per_msg, "nats-py", rates.raw_cpu_us_per_msg, 0)
    compare("one slice, mean cost", found.mean_cost, "grid", found.grid_mean_cost, 4)
    compare("one slice, ms", found.microopt_ms_p50, "grid", found.grid_ms_p50, 1)
    compare("one slice, ms", found.microopt_ms_p50, "grid, float32", found.grid_float32_ms_p50, 1)
    compare("two slices, 50 atoms, ms", found.pair_ms_p50, "grid, float32", found.pair_grid_float32_ms_p50, 1)
    compare("the same, scarce, ms", found.scarce_pair_ms_p50, "not scarce", found.pair_ms_p50, 1)
    infeasible = f"{found.infeasible} of {found.settings}", "grid", f"{found.grid_infeasible} of {found.settings}"
    table.add_row("infeasible settings", *infeasible, "")
    return table


if __name__ == "__main__":
    main()
