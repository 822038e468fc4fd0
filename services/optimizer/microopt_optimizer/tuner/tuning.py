"""Fine-tuning a slice model on fresh slots, and whether that made it better. Synchronous, and no bus in sight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch

from microopt.errors import ConfigError
from microopt_optimizer.slice_model import train_file
from microopt_optimizer.slice_model.calibration import evaluate
from microopt_optimizer.slice_model.config import FAST, TrainingConfig
from microopt_optimizer.slice_model.dataset import Dataset, Floats, dataset_from_arrays
from microopt_optimizer.slice_model.dataset_csv import read_csv
from microopt_optimizer.slice_model.fitting import begin, proceed
from microopt_optimizer.slice_model.model_file import ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.tuner.fresh import Row
from microopt_optimizer.tuner.settings import OriginalData

BLOCKS: Final = 20
BATCH_ROWS: Final = 64
"""A few hundred rows shall still be some steps an epoch."""
HELD_OUT_EVERY: Final = 4
"""Of twenty blocks in the order of time every fourth is held out, the latest among them."""


@dataclass(frozen=True)
class Outcome:
    """A fine-tuned model, and the mean NLL of both on the held-out rows."""

    model: TrainedModel
    old_nll: float
    new_nll: float
    trained_rows: int
    held_out_rows: int

    def is_better(self, gain: float) -> bool:
        """Return whether the new one is better by more than `gain`; what is no number is not."""
        return self.old_nll - self.new_nll > gain


def dataset_of(rows: Sequence[Row], header: ModelHeader) -> Dataset:
    """Return fresh rows as a dataset of a model's resources and QoS."""
    return dataset_from_arrays(
        [row.users for row in rows],
        [row.resources for row in rows],
        [row.qos for row in rows],
        names=header.resource_names,
        units=[resource.unit for resource in header.resources],
        time_s=[row.time.timestamp() for row in rows],
        qos_metric=header.qos_metric,
        qos_unit=header.qos_unit,
        higher_is_better=header.higher_is_better,
    )


def nlls(model: TrainedModel, rows: Sequence[Row]) -> list[float]:
    """Return the NLL of each row under a model."""
    if not rows:
        return []
    with torch.inference_mode():
        users = torch.tensor([row.users for row in rows], dtype=torch.float64)
        resources = torch.tensor([row.resources for row in rows], dtype=torch.float64)
        qos = torch.tensor([row.qos for row in rows], dtype=torch.float64)
        values: list[float] = (-model(users, resources).log_density(qos)).nan_to_num(nan=torch.inf).tolist()
        return values


def original(data: OriginalData, header: ModelHeader) -> Dataset:
    """Return what a model was trained on, with its resources in the model's order.

    Raises:
        ConfigError: the files cannot be read, or are of other resources, units or another QoS.
    """
    file = train_file.read(Path(data.config)) if data.config else None
    columns = file.columns if file else None
    rows, _ = read_csv(Path(data.csv), columns, **({"settle_s": file.settle_s} if file else {}))
    units = dict(zip(rows.resource_names, rows.resource_units, strict=True))
    wanted = {resource.name: resource.unit for resource in header.resources}
    qos = (rows.qos_metric, rows.qos_unit, rows.higher_is_better)
    if units != wanted or qos != (header.qos_metric, header.qos_unit, header.higher_is_better):
        raise ConfigError(
            f"{data.csv}: has {units} and {rows.qos_metric} in {rows.qos_unit}, the model has {wanted} and "
            f"{header.qos_metric} in {header.qos_unit}; name the columns in config"
        )
    order = [rows.resource_names.index(name) for name in header.resource_names]
    return replace(
        rows,
        resources=rows.resources[:, order],
        resource_names=header.resource_names,
        resource_units=tuple(wanted.values()),
    )


def fine_tune(
    model: TrainedModel,
    fresh: Dataset,
    before: Dataset | None = None,
    *,
    epochs: int = 30,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> Outcome:
    """Train a model further on fresh rows, and as many of those from before; measure it on held-out fresh ones.

    The model itself is left as it is.

    Raises:
        ConfigError: too few rows, or the loss stopped being a number.
    """
    rows, held_out = time_blocks(fresh)
    if not len(held_out) or len(rows) < 2:
        raise ConfigError(f"{len(fresh)} fresh rows are too few to tune on and to hold out")
    learnt = rows if before is None else joined(rows, _drawn(before, len(rows), seed))
    config = _config(model.header, epochs, learning_rate, seed)
    fit = begin(learnt, learnt.rows(np.zeros(len(learnt), dtype=np.bool_)), config)
    fit.network.load_state_dict(model.network.state_dict())
    for _ in proceed(fit):
        pass
    metrics = {"train": evaluate(fit.network, learnt), "validation": evaluate(fit.network, held_out)}
    header = msgspec.structs.replace(
        model.header,
        resources=_widened(model.header, rows),
        users=_union(model.header.users, rows.users),
        metrics=metrics,
        data_sha256=learnt.sha256(),
        training={**msgspec.to_builtins(config), "fine_tuned_from": model.digest, "fresh_rows": len(fresh)},
    )
    return Outcome(
        model=TrainedModel(fit.network, header, f"{model.name} fine-tuned"),
        old_nll=evaluate(model.network, held_out).nll,
        new_nll=metrics["validation"].nll,
        trained_rows=len(learnt),
        held_out_rows=len(held_out),
    )


def time_blocks(fresh: Dataset) -> tuple[Dataset, Dataset]:
    """Split into rows to train on and rows held out, by blocks in the order of time: neighbours are alike."""
    order = np.argsort(fresh.time_s if fresh.time_s is not None else np.arange(len(fresh)), kind="stable")
    block = np.empty(len(fresh), dtype=np.intp)
    block[order] = np.arange(len(fresh)) * BLOCKS // max(1, len(fresh))
    held_out = block % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return fresh.rows(~held_out), fresh.rows(held_out)


def joined(one: Dataset, other: Dataset) -> Dataset:
    """Return the rows of two datasets of the same resources and QoS; times are of no use any more."""
    return replace(
        one,
        users=np.concatenate([one.users, other.users]),
        resources=np.concatenate([one.resources, other.resources]),
        qos=np.concatenate([one.qos, other.qos]),
        time_s=None,
    )


def _drawn(rows: Dataset, count: int, seed: int) -> Dataset:
    """Return at most `count` of the rows: fresh ones shall not drown in what was measured long ago."""
    if len(rows) <= count:
        return rows
    chosen = np.zeros(len(rows), dtype=np.bool_)
    chosen[np.random.default_rng(seed).choice(len(rows), count, replace=False)] = True
    return rows.rows(chosen)


def _config(header: ModelHeader, epochs: int, learning_rate: float, seed: int) -> TrainingConfig:
    """Return how to train further: the model's own network, on the rows as they are, to the end."""
    shape = header.architecture
    return msgspec.structs.replace(
        FAST,
        epochs=epochs,
        batch_size=BATCH_ROWS,
        learning_rate=learning_rate,
        seed=seed,
        teachers=0,
        input_noise=0.0,
        spread_epochs=0,
        patience=None,
        validation_share=0.0,
        width=shape.width,
        depth=shape.depth,
        activation=shape.activation,
        components=shape.components,
        members=shape.members,
        per_user=shape.per_user,
        monotone=shape.monotone != "no",
    )


def _widened(header: ModelHeader, rows: Dataset) -> tuple[ResourceInput, ...]:
    return tuple(
        msgspec.structs.replace(resource, trained=_union(resource.trained, rows.resources[:, column]))
        for column, resource in enumerate(header.resources)
    )


def _union(trained: Range, values: Floats) -> Range:
    """Return the range that also holds the values."""
    return Range(min(trained.low, float(values.min())), max(trained.high, float(values.max())))
