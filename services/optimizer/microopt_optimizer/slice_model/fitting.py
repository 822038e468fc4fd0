"""The fit of a slice model by maximum likelihood (paper eq. 4): all members of an ensemble at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import torch
from msgspec import Struct
from msgspec.structs import replace
from torch import Tensor, nn

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.batches import Batch, Rows, partly_taught, taught, with_noise
from microopt_optimizer.slice_model.config import TrainingConfig, architecture
from microopt_optimizer.slice_model.dataset import Dataset
from microopt_optimizer.slice_model.network import SliceModel

_POINTS: Final = 100
_CHUNK_ROWS: Final = 65_536
"""Rows measured at once, for the memory's sake."""
_SPREAD_RATE: Final = 0.3
_MEAN_WEIGHT: Final = 100.0
"""Of squared errors from a teacher's mean, in the QoS's variances."""


class Progress(Struct, frozen=True, kw_only=True):
    """A point of the learning curve: where training is, and the errors of the whole model on the rows as measured.

    `validation_*` are None where no rows are held out.
    """

    epoch: int
    epochs: int
    nll: float
    mse: float
    validation_nll: float | None = None
    validation_mse: float | None = None


@dataclass
class Fit:
    """A training under way. Whatever changes from epoch to epoch is kept by a checkpoint.

    With a teacher, the teacher is trained first, on the rows, and the network then learns from the teacher.
    """

    config: TrainingConfig
    rows: Rows
    held_out: Rows | None
    network: SliceModel
    optimizer: torch.optim.Optimizer
    shuffles: list[torch.Generator]
    draws: torch.Generator
    teacher: "Fit | None"
    epoch: int = 0
    stopped: int | None = None
    """The epoch that patience ended the main part at."""
    best: dict[str, Tensor] | None = None
    best_nll: float = math.inf
    best_epoch: int = 0
    curve: list[Progress] = field(default_factory=list)

    @property
    def main_epochs(self) -> int:
        """Return how many epochs train the whole network."""
        return self.config.epochs if self.stopped is None else self.stopped

    @property
    def epochs(self) -> int:
        """Return how many epochs there are, after the teacher's."""
        return self.main_epochs + self.config.spread_epochs

    @property
    def trains_spread(self) -> bool:
        """Return whether the next epoch trains only standard deviations and weights."""
        return self.epoch >= self.main_epochs


def begin(rows: Dataset, held_out: Dataset, config: TrainingConfig) -> Fit:
    """Return a training that has not begun: the networks' first weights follow from the seed.

    Raises:
        ConfigError: patience without rows to judge it by.
    """
    if config.patience is not None and config.validation_share == 0.0:
        raise ConfigError(
            "patience needs validation rows: raise validation_share above 0, or set patience to null"
        )
    teacher = begin(rows, held_out, config.of_teachers()) if config.teachers else None
    network = _initial(rows, config)
    return Fit(
        config=config,
        rows=Rows.of(rows),
        held_out=Rows.of(held_out) if len(held_out) else None,
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True),
        shuffles=[_generator(config.seed, member) for member in range(config.members)],
        draws=_generator(config.seed, config.members),
        teacher=teacher,
    )


def proceed(fit: Fit) -> Iterator[Progress]:
    """Train epoch by epoch to the end, and yield the points of the learning curve on the way.

    Between two points the training can be kept and resumed from what was kept, with the same result.

    Raises:
        ConfigError: the loss stopped being a number.
    """
    if fit.teacher is not None:
        for point in proceed(fit.teacher):
            fit.curve.append(replace(point, epochs=point.epochs + fit.epochs))
            yield fit.curve[-1]
    every = max(1, (fit.config.epochs + fit.config.spread_epochs) // _POINTS)
    while fit.epoch < fit.epochs:
        _train_epoch(fit)
        is_end_of_part = fit.epoch in (fit.main_epochs, fit.epochs)
        if fit.epoch % every == 0 or is_end_of_part:
            point = _measured(fit)
            _watch(fit, point, is_end_of_part=is_end_of_part)
            fit.curve.append(replace(point, epochs=_before(fit) + fit.epochs))
            yield fit.curve[-1]


def loss_of(network: SliceModel, rows: Rows) -> tuple[float, float]:
    """Return NLL and MSE of a network in evaluation mode, in the network's precision."""
    nll = mse = 0.0
    parts = (torch.split(part, _CHUNK_ROWS) for part in (rows.users, rows.resources, rows.qos))
    with torch.no_grad():
        for users, resources, qos in zip(*parts, strict=True):
            predicted = network(users, resources)
            nll -= float(predicted.log_density(qos).sum())
            mse += float(((predicted.expectation - qos) ** 2).sum())
    return nll / len(rows), mse / len(rows)


def _train_epoch(fit: Fit) -> None:
    network, rows, spread = fit.network, fit.rows, fit.trains_spread
    _prepare(network, fit.config, spread=spread)
    # Full batches only: batch norm on a remainder of one row would be undefined.
    size = min(fit.config.batch_size, len(rows))
    steps = len(rows) // size
    orders = [torch.randperm(len(rows), generator=shuffle)[: steps * size] for shuffle in fit.shuffles]
    total = torch.zeros(())
    for step, chosen in enumerate(torch.stack(orders).view(len(orders), steps, size).unbind(1)):
        for group in fit.optimizer.param_groups:
            group["lr"] = fit.config.learning_rate * _rate(fit, step / steps, 1.0 / steps)
        batch = _lesson(fit, rows.batch(chosen))
        fit.optimizer.zero_grad()
        loss = _loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        fit.optimizer.step()
        total += loss.detach()
    fit.epoch += 1
    if not torch.isfinite(total):
        rate = fit.config.learning_rate
        raise ConfigError(f"training diverged in epoch {fit.epoch}; lower learning_rate {rate:g}")


def _loss(network: SliceModel, batch: Batch) -> Tensor:
    """Return the members' losses in sum, each's NLL and, where it is known, the error of its mean."""
    predicted = network.each(batch.users, batch.resources)
    loss = -predicted.log_density(batch.qos).mean(-1)
    if batch.expectation is not None:
        # The likelihood alone hardly minds where the spread is wide.
        error = (predicted.expectation - batch.expectation) / network.qos_scale
        loss = loss + _MEAN_WEIGHT * (error**2).mean(-1)
    return loss.sum()


def _lesson(fit: Fit, batch: Batch) -> Batch:
    """Return what to learn from instead of a batch of rows."""
    teacher = fit.teacher.network if fit.teacher else None
    if fit.trains_spread and teacher:
        return partly_taught(fit.rows, batch, teacher, fit.draws, fit.config.teachers_share)
    if fit.trains_spread:
        return batch
    if teacher:
        return taught(fit.rows, batch, teacher, fit.draws)
    return with_noise(fit.rows, batch, fit.config.input_noise, fit.draws) if fit.config.input_noise else batch


def _rate(fit: Fit, part: float, step: float) -> float:
    """Return the factor of the learning rate, `part` into the next epoch; `step` is one batch's part of it."""
    config = fit.config
    if fit.trains_spread:
        return _SPREAD_RATE * (1.0 - (fit.epoch - fit.main_epochs + part) / config.spread_epochs)
    done = (fit.epoch + part) / config.epochs
    if config.schedule == "step":
        return 1.0 if done < 0.5 else config.drop
    warm_up = 0.1
    if done < warm_up:
        return min(1.0, (done + step / config.epochs) / warm_up)
    return 0.5 * (1.0 + math.cos(math.pi * (done - warm_up) / (1.0 - warm_up)))


def _prepare(network: SliceModel, config: TrainingConfig, *, spread: bool) -> None:
    """Put the network in training mode, with the parameters that are to be trained."""
    network.train()
    if config.normalise == "rows" or spread:
        network.norm.eval()
    for part in (network.norm, network.trunk, network.mean):
        for parameter in part.parameters():
            parameter.requires_grad_(not spread)
            if spread:
                parameter.grad = None  # the optimizer leaves those without a gradient alone


def _measured(fit: Fit) -> Progress:
    fit.network.eval()
    nll, mse = loss_of(fit.network, fit.rows)
    held_out = loss_of(fit.network, fit.held_out) if fit.held_out else (None, None)
    return Progress(
        epoch=_before(fit) + fit.epoch,
        epochs=_before(fit) + fit.epochs,
        nll=nll,
        mse=mse,
        validation_nll=held_out[0],
        validation_mse=held_out[1],
    )


def _before(fit: Fit) -> int:
    """Return the epochs of the teacher."""
    return 0 if fit.teacher is None else fit.teacher.epochs


def _watch(fit: Fit, point: Progress, *, is_end_of_part: bool) -> None:
    """Remember the best weights of this part of the training; at its end, or out of patience, go back to them."""
    if fit.config.patience is None or point.validation_nll is None:
        return
    if point.validation_nll < fit.best_nll:
        fit.best_nll, fit.best_epoch = point.validation_nll, fit.epoch
        fit.best = {name: tensor.detach().clone() for name, tensor in fit.network.state_dict().items()}
    is_over = not fit.trains_spread and fit.epoch - fit.best_epoch >= fit.config.patience
    if is_over:
        fit.stopped = fit.epoch
    if (is_over or is_end_of_part) and fit.best is not None:
        fit.network.load_state_dict(fit.best)
        fit.best, fit.best_nll, fit.best_epoch = None, math.inf, fit.epoch


def _initial(rows: Dataset, config: TrainingConfig) -> SliceModel:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SliceModel(architecture(config, rows))
    if config.scale_qos:
        network.qos_offset.fill_(float(rows.qos.mean()))
        network.qos_scale.fill_(float(rows.qos.std()) or 1.0)
    network.users_floor.fill_(float(rows.users[rows.users > 0.0].min(initial=1.0)))
    _set_norm(network.norm, network, rows)
    return network.eval()


def _set_norm(norm: nn.BatchNorm1d, network: SliceModel, rows: Dataset) -> None:
    """Normalise by all training rows once and for all: running statistics would wander with the last batches."""
    users, resources = (torch.tensor(values) for values in (rows.users, rows.resources))
    inputs = network.features(users, resources)
    members = network.architecture.members
    norm.momentum = 0.0
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.copy_(inputs.mean(0).repeat(members))
        norm.running_var.copy_(inputs.var(0).repeat(members))


def _generator(seed: int, number: int) -> torch.Generator:
    # Far apart, so that no member of one seed draws what a member of another does.
    return torch.Generator().manual_seed(seed * 1_000_003 + number)
