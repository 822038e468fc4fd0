"""Training a slice model by maximum likelihood (paper eq. 4)."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.dataset import Dataset, Floats, split
from microopt_optimizer.slice_model.model_file import Metrics, ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.slice_model.network import Architecture, SliceModel

_MIN_ROWS = 32
_REPORTS = 100


class TrainingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train.

    `schedule` is `step` (times `drop` after half of the epochs, as in the paper) or `one_cycle` (up to
    `learning_rate` over the first tenth, then down as a cosine). `scale_qos` standardises the QoS.
    """

    epochs: Annotated[int, Meta(ge=1)] = 250
    batch_size: Annotated[int, Meta(ge=2)] = 512
    learning_rate: Annotated[float, Meta(gt=0.0)] = 1e-2
    schedule: Literal["one_cycle", "step"] = "one_cycle"
    drop: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1
    validation_share: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.2
    seed: Annotated[int, Meta(ge=0)] = 0
    scale_qos: bool = True
    width: int = 16
    depth: int = 3


FAST = TrainingConfig()
PAPER = TrainingConfig(epochs=3000, batch_size=1024, learning_rate=1e-3, schedule="step", scale_qos=False)
"""§VI-A1: 3,000 epochs at 0.001, a tenth of it after 1,500. The batch size is not printed; this one is ours."""

PRESETS = {"fast": FAST, "paper": PAPER}


class Progress(Struct, frozen=True):
    """Where training is: epochs done of all, and the mean NLL of this epoch's batches."""

    epoch: int
    epochs: int
    nll: float


def train(
    dataset: Dataset,
    config: TrainingConfig = FAST,
    *,
    test: Dataset | None = None,
    progress: Callable[[Progress], None] | None = None,
    name: str = "unnamed",
) -> TrainedModel:
    """Train a slice model and measure it on training, validation and, where given, test rows.

    The same data, config and number of threads give the same model. `progress` is called about a hundred times.

    Raises:
        ConfigError: too few rows, `test` has other resources, or the loss stopped being a number.
    """
    if test is not None and test.resource_names != dataset.resource_names:
        raise ConfigError(f"test has resources {test.resource_names}, training {dataset.resource_names}")
    rows, held_out = split(dataset, config.validation_share, config.seed)
    if len(rows) < _MIN_ROWS:
        raise ConfigError(f"{len(rows)} rows to train on, at least {_MIN_ROWS} are needed; measure more")
    network = _fit(rows, config, progress or (lambda _: None))
    parts = {"train": rows, "validation": held_out, "test": test}
    metrics = {part: evaluate(network, data) for part, data in parts.items() if data is not None and len(data)}
    return TrainedModel(network, _header(dataset, network.architecture, metrics), name)


def evaluate(network: SliceModel, dataset: Dataset) -> Metrics:
    """Return NLL, MSE and MAE of a network on a dataset, in float64."""
    network.double().eval()
    users, resources, qos = _tensors(dataset, torch.float64)
    with torch.no_grad():
        predicted = network(users, resources)
    error = predicted.expectation - qos
    return Metrics(
        rows=len(dataset),
        nll=-float(predicted.log_density(qos).mean()),
        mse=float((error**2).mean()),
        mae=float(error.abs().mean()),
    )


def _fit(rows: Dataset, config: TrainingConfig, progress: Callable[[Progress], None]) -> SliceModel:
    users, resources, qos = _tensors(rows, torch.float32)
    network = _initial(rows, config)
    shuffle = torch.Generator().manual_seed(config.seed)
    # Full batches only: batch norm on a remainder of one row would be undefined.
    batch = min(config.batch_size, len(rows))
    steps = len(rows) // batch
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    scheduler = _scheduler(optimizer, config, steps)
    every = max(1, config.epochs // _REPORTS)
    for epoch in range(1, config.epochs + 1):
        order = torch.randperm(len(rows), generator=shuffle)[: steps * batch].view(steps, batch)
        total = torch.zeros(())
        for chosen in order:
            optimizer.zero_grad()
            loss = -network.each(users[chosen][None], resources[chosen][None]).log_density(qos[chosen]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            total += loss.detach()
        if not torch.isfinite(total):
            raise ConfigError(f"training diverged in epoch {epoch}; lower learning_rate {config.learning_rate:g}")
        if epoch % every == 0 or epoch == config.epochs:
            progress(Progress(epoch, config.epochs, float(total) / steps))
    return _with_exact_norm(network, users, resources)


def _initial(rows: Dataset, config: TrainingConfig) -> SliceModel:
    architecture = Architecture(inputs=rows.resources.shape[1] + 1, width=config.width, depth=config.depth)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SliceModel(architecture)
    if config.scale_qos:
        network.qos_offset.fill_(float(rows.qos.mean()))
        network.qos_scale.fill_(float(rows.qos.std()) or 1.0)
    return network.train()


def _scheduler(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    total = config.epochs * steps
    warm_up = max(1, total // 10)

    def factor(step: int) -> float:
        if config.schedule == "step":
            return 1.0 if step < total // 2 else config.drop
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _with_exact_norm(network: SliceModel, users: Tensor, resources: Tensor) -> SliceModel:
    """Replace the running statistics, which wander with the last batches, by those of all training rows."""
    inputs = torch.cat([users.unsqueeze(-1), resources], dim=-1).double()
    running_mean, running_var = network.norm.running_mean, network.norm.running_var
    if running_mean is not None and running_var is not None:
        running_mean.copy_(inputs.mean(0))
        running_var.copy_(inputs.var(0))
    return network


def _tensors(dataset: Dataset, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    users, resources, qos = (
        torch.tensor(values, dtype=dtype) for values in (dataset.users, dataset.resources, dataset.qos)
    )
    return users, resources, qos


def _range(values: Floats) -> Range:
    return Range(float(np.min(values)), float(np.max(values)))


def _header(dataset: Dataset, architecture: Architecture, metrics: dict[str, Metrics]) -> ModelHeader:
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
    )
