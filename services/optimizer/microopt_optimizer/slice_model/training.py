"""Training a slice model, and what is known of it afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from microopt.errors import ConfigError
from microopt_optimizer.slice_model import checkpoint as checkpoints
from microopt_optimizer.slice_model.calibration import evaluate
from microopt_optimizer.slice_model.config import FAST, PAPER, PRESETS, TrainingConfig
from microopt_optimizer.slice_model.dataset import Dataset, Floats, split
from microopt_optimizer.slice_model.fitting import Progress, begin, proceed
from microopt_optimizer.slice_model.model_file import Metrics, ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.slice_model.network import Architecture

__all__ = ["FAST", "PAPER", "PRESETS", "Progress", "TrainingConfig", "evaluate", "require_usable", "train"]

MIN_ROWS: Final = 32


def train(
    dataset: Dataset,
    config: TrainingConfig = FAST,
    *,
    test: Dataset | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    name: str = "unnamed",
) -> TrainedModel:
    """Train a slice model and measure it on training, validation and, where given, test rows.

    The same data, config and number of threads give the same model. `progress` is called about a hundred times: a
    point of the learning curve each. A training that was interrupted goes on from the file `checkpoint`, where it
    is kept; `progress` gets the points from before again.

    Raises:
        ConfigError: nothing to be learnt from the rows (see `require_usable`), `test` has other resources, the
            checkpoint is of another training, or the loss stopped being a number.
    """
    if test is not None and test.resource_names != dataset.resource_names:
        raise ConfigError(f"test has resources {test.resource_names}, training {dataset.resource_names}")
    require_usable(dataset)
    rows, held_out = split(dataset, config.validation_share, config.seed, by=config.split)
    if len(rows) < MIN_ROWS:
        raise ConfigError(f"{len(rows)} rows to train on, at least {MIN_ROWS} are needed; measure more")
    fit, data = begin(rows, held_out, config), checkpoints.digest(rows, held_out)
    if checkpoint is not None and checkpoint.exists():
        checkpoints.restore(fit, data, checkpoint)
    report = progress or (lambda _: None)
    for point in fit.curve:
        report(point)
    for point in proceed(fit):
        if checkpoint is not None:
            checkpoints.save(fit, data, checkpoint)
        report(point)
    parts = {"train": rows, "validation": held_out, "test": test}
    metrics = {part: evaluate(fit.network, data) for part, data in parts.items() if data is not None and len(data)}
    return TrainedModel(fit.network, _header(dataset, fit.network.architecture, metrics, config), name)


def require_usable(dataset: Dataset) -> None:
    """Refuse rows from which a model could only make up what users, a resource or the QoS do.

    Raises:
        ConfigError: too few rows, or users, a resource or the QoS never changes.
    """
    if len(dataset) < MIN_ROWS:
        raise ConfigError(f"{len(dataset)} rows to train on, at least {MIN_ROWS} are needed; measure more")
    columns = {"users": dataset.users, **dict(zip(dataset.resource_names, dataset.resources.T, strict=True))}
    constant = [f"{name} ({values[0]:g})" for name, values in columns.items() if np.ptp(values) == 0.0]
    if len(constant) == len(columns):
        raise ConfigError(
            f"all rows have the same users and resources, {', '.join(constant)}: one cell says nothing of any "
            "other; measure at several numbers of users and several values of each resource"
        )
    if constant:
        raise ConfigError(
            f"{', '.join(constant)} is the same in all rows, so nobody can tell what a change of it does; measure "
            "at several values, or leave out a resource that is never changed"
        )
    if np.ptp(dataset.qos) == 0.0:
        raise ConfigError(
            f"{dataset.qos_metric} is {dataset.qos[0]:g} {dataset.qos_unit} in all rows: there is nothing to "
            "learn and no spread to measure; check which column holds the QoS"
        )


def _range(values: Floats) -> Range:
    return Range(float(np.min(values)), float(np.max(values)))


def _header(
    dataset: Dataset, architecture: Architecture, metrics: dict[str, Metrics], config: TrainingConfig
) -> ModelHeader:
    inputs = zip(dataset.resource_names, dataset.resource_units, dataset.resources.T, strict=True)
    return ModelHeader(
        architecture=architecture,
        resources=tuple(
            ResourceInput(name=name, unit=unit, trained=_range(values)) for name, unit, values in inputs
        ),
        users=_range(dataset.users),
        qos_metric=dataset.qos_metric,
        qos_unit=dataset.qos_unit,
        higher_is_better=dataset.higher_is_better,
        metrics=metrics,
        data_sha256=dataset.sha256(),
        training=msgspec.to_builtins(config),
    )
