"""How QoS is distributed, and the closed form of the QoS degradation E(β) that follows."""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

_LOG_2PI = math.log(2.0 * math.pi)


class QosDistribution(NamedTuple):
    """A mixture of C normal distributions in the QoS's unit; every tensor has shape [..., C], weights sum to 1.

    One component is the paper's normal distribution (eq. 3), several the mixture density network it names.
    """

    weight: Tensor
    mean: Tensor
    std: Tensor

    @property
    def expectation(self) -> Tensor:
        """Return the mean of the mixture, [...]."""
        return (self.weight * self.mean).sum(-1)

    @property
    def deviation(self) -> Tensor:
        """Return the standard deviation of the mixture, [...]."""
        second = (self.weight * (self.std**2 + self.mean**2)).sum(-1)
        return torch.sqrt((second - self.expectation**2).clamp(min=0.0))

    def below(self, qos: Tensor | float) -> Tensor:
        """Return P(QoS <= qos), [...]."""
        if isinstance(qos, Tensor):
            qos = qos.unsqueeze(-1)
        each: Tensor = torch.special.ndtr((qos - self.mean) / self.std)
        return (self.weight * each).sum(-1)

    def missed(self, qos_threshold: Tensor | float, higher_is_better: bool = True) -> Tensor:
        """Return the probability that the QoS misses its threshold: the indicator of eq. (1) in expectation."""
        below = self.below(qos_threshold)
        return below if higher_is_better else 1.0 - below

    def log_density(self, qos: Tensor) -> Tensor:
        """Return log p(qos), [...] (paper eq. 4)."""
        exponent = -0.5 * ((qos.unsqueeze(-1) - self.mean) / self.std) ** 2
        each = torch.log(self.weight) + exponent - torch.log(self.std) - 0.5 * _LOG_2PI
        return torch.logsumexp(each, dim=-1)


def normal(mean: Tensor, std: Tensor) -> QosDistribution:
    """Return a single normal distribution with mean and standard deviation [...]."""
    return QosDistribution(torch.ones_like(mean).unsqueeze(-1), mean.unsqueeze(-1), std.unsqueeze(-1))


class QosFunction(Protocol):
    """Anything that says how QoS is distributed: users [...] and resources [..., K] to distributions [...]."""

    def __call__(self, users: Tensor, resources: Tensor, /) -> QosDistribution:
        """Return the distribution of the QoS; leading dimensions broadcast."""
        ...


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
    qos = model(users, resources.unsqueeze(-2))
    if isinstance(qos_threshold, Tensor):
        qos_threshold = qos_threshold.unsqueeze(-1)
    return (user_shares(users, weights) * qos.missed(qos_threshold, higher_is_better)).sum(-1)


def user_shares(users: Tensor, weights: Tensor) -> Tensor:
    """Return each atom's share of all user-time, [..., J]: w x / Σ w x, and 0 where there are no users."""
    share = users * weights
    total = share.sum(-1, keepdim=True)
    return torch.where(total > 0.0, share / total, torch.zeros_like(share))
