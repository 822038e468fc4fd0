"""What a training step learns from: measured rows, with noise on their inputs, or answers of a teacher."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from microopt_optimizer.slice_model.dataset import Dataset
from microopt_optimizer.slice_model.network import SliceModel

ANYWHERE: Final = 0.5
"""Share of what a teacher is asked about resources from anywhere within their ranges, not about measured ones."""


class Batch(NamedTuple):
    """Rows for each member by itself: users [M, B], resources [M, B, K], QoS [M, B].

    `expectation` [M, B] is the mean QoS where it is known, from a teacher.
    """

    users: Tensor
    resources: Tensor
    qos: Tensor
    expectation: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """Users [N], resources [N, K] and QoS [N] in float32, as training reads them."""

    users: Tensor
    resources: Tensor
    qos: Tensor

    @classmethod
    def of(cls, dataset: Dataset) -> "Rows":
        """Return the rows of a dataset."""
        parts = (dataset.users, dataset.resources, dataset.qos)
        return cls(*(torch.tensor(values, dtype=torch.float32) for values in parts))

    def __len__(self) -> int:
        return int(self.users.shape[0])

    def batch(self, chosen: Tensor) -> Batch:
        """Return the rows with the indices `chosen` [M, B]."""
        return Batch(self.users[chosen], self.resources[chosen], self.qos[chosen])


def with_noise(rows: Rows, batch: Batch, scale: float, draws: torch.Generator) -> Batch:
    """Return the batch with normal noise on the inputs, of `scale` times their standard deviations."""
    users = batch.users + scale * rows.users.std() * torch.randn(batch.users.shape, generator=draws)
    deviations = scale * rows.resources.std(0)
    resources = batch.resources + deviations * torch.randn(batch.resources.shape, generator=draws)
    return Batch(users, resources, batch.qos)


def taught(
    rows: Rows, batch: Batch, teacher: SliceModel, draws: torch.Generator, *, anywhere: float = ANYWHERE
) -> Batch:
    """Return the batch with QoS drawn from the teacher's distribution, partly on resources from anywhere."""
    resources = batch.resources.clone()
    members, size, count = resources.shape
    moved = int(anywhere * size)
    low, high = rows.resources.min(0).values, rows.resources.max(0).values
    resources[:, :moved] = low + (high - low) * torch.rand((members, moved, count), generator=draws)
    with torch.no_grad():
        said = teacher(batch.users, resources)
        component = torch.multinomial(said.weight.flatten(0, 1), 1, generator=draws).view(members, size, 1)
        mean, std = said.mean.gather(-1, component)[..., 0], said.std.gather(-1, component)[..., 0]
        qos = mean + std * torch.randn(mean.shape, generator=draws)
        return Batch(batch.users, resources, qos, said.expectation)


def partly_taught(rows: Rows, batch: Batch, teacher: SliceModel, draws: torch.Generator, share: float) -> Batch:
    """Return the batch as measured, but for a share of it that is the teacher's, for resources from anywhere."""
    count = int(share * batch.qos.shape[1])
    if count == 0:
        return batch
    asked = Batch(batch.users[:, :count], batch.resources[:, :count], batch.qos[:, :count])
    answers = taught(rows, asked, teacher, draws, anywhere=1.0)
    kept = Batch(batch.users[:, count:], batch.resources[:, count:], batch.qos[:, count:])
    return Batch(*(torch.cat(parts, dim=1) for parts in zip(answers[:3], kept[:3], strict=True)))
