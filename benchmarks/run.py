"""Measure and compare; see README.md beside this file for what is measured, and how."""

import os
from pathlib import Path
from typing import Any

import bus
import click
import machine
import msgspec
import slice_model
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
    trained = slice_model.measure(quick=quick, console=console)
    _keep(folder / "slice_model.json", trained, about)
    console.print(_table(rates, trained))
    console.print(f"written to {os.path.relpath(folder)}", highlight=False)


def _keep(path: Path, results: msgspec.Struct, about: dict[str, Any]) -> None:
    data = msgspec.json.encode({**msgspec.to_builtins(results), **about})
    path.write_bytes(msgspec.json.format(data, indent=2) + b"\n")


def _table(rates: bus.Results, trained: slice_model.Results) -> Table:
    table = Table("microopt", "", "beside it", "", "ratio", title="benchmarks")
    rows = f"{rates.sdk_msgs_per_s:.0f}", "nats-py", f"{rates.raw_msgs_per_s:.0f}", f"{rates.ratio:.3f}"
    table.add_row("SDK, messages/s", *rows)
    ours, theirs = rates.sdk_cpu_us_per_msg, rates.raw_cpu_us_per_msg
    table.add_row("SDK, CPU µs a message", f"{ours:.0f}", "nats-py", f"{theirs:.0f}", f"{ours / theirs:.3f}")
    table.add_row(f"training on {trained.rows:,} rows, s", f"{trained.train_s:.1f}")
    return table


if __name__ == "__main__":
    main()
