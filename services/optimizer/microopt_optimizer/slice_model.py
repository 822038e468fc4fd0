"""The slice model f_QoS of the paper (§IV-A, §VI-A1), and the closed form of the QoS degradation E(β)."""

import itertools
from typing import Annotated, Protocol

import torch
from msgspec import Meta, Struct
from torch import Tensor, nn
from torch.nn import functional

_STD_FLOOR = 1e-3


class Architecture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a slice model: inputs are the users and the resources, in this order."""

    inputs: Annotated[int, Meta(ge=2, le=64)]
    width: Annotated[int, Meta(ge=1, le=1024)] = 16
    depth: Annotated[int, Meta(ge=1, le=16)] = 3
    distribution: str = "gaussian"


class QosFunction(Protocol):
    """Anything that says how QoS is distributed: users [...] and resources [..., K] to (mean, std) [...]."""

    def __call__(self, users: Tensor, resources: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the QoS; leading dimensions broadcast."""
        ...


class SliceModel(nn.Module):
    """The paper's network: batch norm, shared hidden layers, and a branch each for mean and standard deviation.

    `qos_offset` and `qos_scale` take the QoS's unit out of training (0 and 1: the printed model).
    """

    qos_offset: Tensor
    qos_scale: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.architecture = architecture
        self.norm = nn.BatchNorm1d(architecture.inputs)
        widths = [architecture.inputs, *[width] * architecture.depth]
        layers = ((nn.Linear(before, after), nn.ReLU()) for before, after in itertools.pairwise(widths))
        self.shared = nn.Sequential(*(module for layer in layers for module in layer))
        self.mean = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        self.std = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        self.register_buffer("qos_offset", torch.zeros(()))
        self.register_buffer("qos_scale", torch.ones(()))

    def forward(self, users: Tensor, resources: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the QoS, in its unit (paper eq. 3).

        `users` has shape [...] and `resources` [..., K]; the leading dimensions broadcast and are returned.
        """
        shape = (users + resources[..., 0]).shape
        inputs = torch.cat(
            [users.expand(shape).unsqueeze(-1), resources.expand(*shape, resources.shape[-1])], dim=-1
        )
        hidden = self.shared(self.norm(inputs.reshape(-1, inputs.shape[-1])))
        mean = self.qos_offset + self.qos_scale * self.mean(hidden)
        std = self.qos_scale * (functional.softplus(self.std(hidden)) + _STD_FLOOR)
        return mean.reshape(shape), std.reshape(shape)


def degradation(mean: Tensor, std: Tensor, qos_threshold: Tensor | float, higher_is_better: bool = True) -> Tensor:
    """Return the probability that the QoS misses its threshold.

    The indicator of eq. (1) in expectation; the one place that knows the distribution's CDF.
    """
    missing = (qos_threshold - mean) if higher_is_better else (mean - qos_threshold)
    probability: Tensor = torch.special.ndtr(missing / std)
    return probability


def expected_degradation(
    model: QosFunction,
    users: Tensor,
    weights: Tensor,
    resources: Tensor,
    qos_threshold: Tensor | float,
    higher_is_better: bool = True,
) -> Tensor:
    """Return E(β) in closed form (paper eq. 1): Σ w x P(miss | x, r) / Σ w x, differentiable in `resources`.

    `users` and `weights` have shape [..., J] (pad with weight 0), `resources` [..., K] and `qos_threshold` [...];
    leading dimensions broadcast. A slice without users is not degraded: 0.
    """
    mean, std = model(users, resources.unsqueeze(-2))
    if isinstance(qos_threshold, Tensor):
        qos_threshold = qos_threshold.unsqueeze(-1)
    share = users * weights
    total = share.sum(-1, keepdim=True)
    share = torch.where(total > 0.0, share / total, torch.zeros_like(share))
    return (share * degradation(mean, std, qos_threshold, higher_is_better)).sum(-1)
