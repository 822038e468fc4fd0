"""`make bench-route`: forecast to allocation, shadows, and what margins do; see ../README.md."""

import asyncio
import importlib
import tempfile
from pathlib import Path
from typing import Any

import click
import machine
import msgspec
import slice_model
import torch
from rich.console import Console

from microopt import log
from microopt.settings import LogSettings
from microopt_optimizer.slice_model import model_file
from route.latency import latency
from route.shadows import ANSWER_WITHIN_S, shadow_cost

RESULTS = Path(__file__).parents[1] / "results"
QUICK_RESULTS = Path("var/bench")
PARTS = ("latency", "shadows", "feedback")
ROUNDS = {1: 200, 100: 15, 1000: 6}
FINER_ROUNDS = {1: 50, 100: 5}
CYCLES = 70
WORKERS = 4
QUICK_ROUNDS = {1: 2, 3: 1}
QUICK_WORKERS = 2
QUICK_CYCLES = 1
QUICK_WITHIN_S = 1.0
"""Of the pools with shadows: on a slow machine that is busy, the active optimizer needs more than usual."""


def measure(quick: bool, only: tuple[str, ...]) -> dict[str, Any]:
    """Return the figures of some parts."""
    found: dict[str, Any] = {}
    if {"latency", "shadows"} & set(only):
        with tempfile.TemporaryDirectory(prefix="microopt-bench-") as folder:
            found |= asyncio.run(_on_a_bus(_model(Path(folder)), quick, only))
    if "feedback" in only:
        feedback, trained = (importlib.import_module(f"route.{name}") for name in ("feedback", "feedback_trained"))
        told = feedback.measure(seeds=1, intervals=24, slots=100) if quick else feedback.measure()
        told["trained"] = trained.measure(seeds=1, intervals=24, epochs=2) if quick else trained.measure()
        found |= {name: told.pop(name) for name in ("optimistic_model", "good_model")} | {"feedback": told}
    return found


async def _on_a_bus(model: Path, quick: bool, only: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "latency" in only:
        arguments = (QUICK_ROUNDS, {1: 1}, QUICK_WORKERS) if quick else (ROUNDS, FINER_ROUNDS, WORKERS)
        found |= await latency(model, *arguments)
    if "shadows" in only:
        limits = (QUICK_CYCLES, QUICK_WITHIN_S) if quick else (CYCLES, ANSWER_WITHIN_S)
        found |= await shadow_cost(model, *limits)
    return found


def _model(folder: Path) -> Path:
    """Return a model that was trained for seconds: solving with a better one takes as long."""
    torch.set_num_threads(1)
    model, _ = slice_model.train(quick=True, console=Console(stderr=True))
    file = folder / "bench.safetensors"
    model_file.save(model, file)
    return file


@click.command()
@click.option("--quick", is_flag=True, help="Only try that everything works; the numbers mean little.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Measure this part alone; for trials.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the result.")
def main(quick: bool, only: tuple[str, ...], out: Path | None) -> None:
    """Measure, print the figures and write route.json."""
    log.configure(LogSettings(level="warning"), agent="bench")
    found = measure(quick, only or PARTS)
    folder = out or (QUICK_RESULTS if quick or only else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "route.json"
    whole = {**found, "machine": machine.describe(), "quick": quick}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
    for name, value in found.items():
        click.echo(f"{name}: {value}")
    click.echo(f"written to {file}")


if __name__ == "__main__":
    main()
