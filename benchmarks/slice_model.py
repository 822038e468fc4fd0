"""The slice model that the solvers are measured on, and how long it takes to train."""

import time
from pathlib import Path

import msgspec
from rich.console import Console

from microopt_optimizer.slice_model import training
from microopt_optimizer.slice_model.dataset import Dataset, dataset_from_arrays
from microopt_optimizer.slice_model.dataset_csv import read_csv
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed.sweep import sweep
from microopt_testbed.traffic import data_folder

NAME = "bench"
_AUTHORS_CSV = Path("microopt_authors") / "train_dataset.csv"
_QUICK_EPOCHS = 8
_QUICK_SAMPLES = 10


class Results(msgspec.Struct, frozen=True):
    """Of the preset that ships, on one thread."""

    train_s: float
    rows: int
    model: str
    """What it was trained on."""


def measure(*, quick: bool, console: Console) -> Results:
    """Return how long training takes."""
    began = time.perf_counter()
    model, source = train(quick=quick, console=console)
    rows = sum(metrics.rows for metrics in model.header.metrics.values())
    return Results(train_s=time.perf_counter() - began, rows=rows, model=source)


def train(*, quick: bool, console: Console) -> tuple[TrainedModel, str]:
    """Return a model and what it was trained on: measurements where present, else the emulated slice.

    A quick one is of the emulated slice always, and worse.
    """
    path = data_folder() / _AUTHORS_CSV
    config = training.FAST.shortened(_QUICK_EPOCHS) if quick else training.FAST
    if quick or not path.is_file():
        rows, source = _swept(quick), "a sweep of the emulated slice"
    else:
        rows, source = read_csv(path)[0], "the measurements of the paper's authors"
    with console.status(f"training on {source}"):
        return training.train(rows, config, name=NAME), source


def _swept(quick: bool) -> Dataset:
    table = sweep(samples=_QUICK_SAMPLES) if quick else sweep()
    return dataset_from_arrays(
        table[:, 0],
        table[:, 1:3],
        table[:, 3],
        names=("gnb_cpu", "transport_bandwidth"),
        units=("millicores", "Mbit/s"),
    )
