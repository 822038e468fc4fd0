"""The demo's slice model: of the authors' measurements where present, else of a sweep of the emulated slice."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import torch
from rich.console import Console

from microopt.errors import ModelError
from microopt.specs import PeakSla
from microopt_optimizer.slice_model import model_file, training
from microopt_optimizer.slice_model.cli import describe, train_with_progress
from microopt_optimizer.slice_model.dataset import Dataset, dataset_from_arrays
from microopt_optimizer.slice_model.dataset_csv import read_csv
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed.demo import scenario
from microopt_testbed.static_plan import static_allocation
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH
from microopt_testbed.sweep import sweep
from microopt_testbed.traffic import data_folder

AUTHORS_CSV: Final = Path("microopt_authors") / "train_dataset.csv"


@dataclass(frozen=True)
class DemoModel:
    """A model, and what it was trained on."""

    model: TrainedModel
    source: str


def prepare(folder: Path, console: Console) -> DemoModel:
    """Return the model from `folder`, trained first if the data or the way to train are new."""
    torch.set_num_threads(1)
    rows, source = _rows(console)
    key = hashlib.sha256(rows.sha256().encode() + msgspec.json.encode(training.FAST)).hexdigest()[:16]
    path = folder / f"{scenario.MODEL}-{key}.safetensors"
    try:
        return DemoModel(model_file.load(path, scenario.MODEL), source)
    except ModelError:  # not trained yet, or cut off
        model = train_with_progress(rows, training.FAST, console, name=scenario.MODEL)
        folder.mkdir(parents=True, exist_ok=True)
        model_file.save(model, path)
        return DemoModel(model, source)


def _rows(console: Console) -> tuple[Dataset, str]:
    path = data_folder() / AUTHORS_CSV
    if path.is_file():
        rows, report = read_csv(path)
        console.print(describe(path, report), highlight=False)
        return rows, "the measurements of the paper's authors"
    table = sweep()
    rows = dataset_from_arrays(
        table[:, 0],
        table[:, 1:3],
        table[:, 3],
        names=(GNB_CPU, TRANSPORT_BANDWIDTH),
        units=(scenario.UNITS[GNB_CPU], scenario.UNITS[TRANSPORT_BANDWIDTH]),
    )
    return rows, "a sweep of the emulated slice"


def peak_allocation(model: TrainedModel, peak: PeakSla | None = None) -> dict[str, float]:
    """Return what static planning for the peak gives a slice: Peak-alloc (paper §VI-A2), or for another SLA.

    Raises:
        ConfigError: nothing within the bounds is enough.
    """
    plan = scenario.Scenario().desired(dict.fromkeys(scenario.WEIGHTS, 1.0))
    return static_allocation(plan.slices[0], plan.pools[0], model, peak or PeakSla())


def peak_for_own_slas(model: TrainedModel, margin: float) -> dict[str, dict[str, float]]:
    """Return static planning for five users at each slice's own SLA, with the margin that microopt keeps."""
    slas = {name: sla.tightened(margin) for name, sla in scenario.SLAS.items()}
    return {
        name: peak_allocation(
            model,
            PeakSla(qos_threshold=sla.qos_threshold, degradation_threshold=sla.degradation_threshold),
        )
        for name, sla in slas.items()
    }
