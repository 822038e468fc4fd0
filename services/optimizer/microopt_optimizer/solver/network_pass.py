"""One pass forward through stacked networks, to E(β), and back, to its gradient by the allocations.

The gradient is written out: of a single slice's time, automatic differentiation would take most.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from microopt_optimizer.slice_model.distribution import user_shares
from microopt_optimizer.slice_model.network import STD_FLOOR, Activation, activate
from microopt_optimizer.solver.networks import Layer, Networks

_INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class Traffic:
    """What G networks need to know that does not depend on the allocations.

    `base` [G, 1, J, W] is the first layer's part of it, `per_user` [G, 1, J, 1] one over the users, `share` [G, 1,
    J, 1] each atom's part of E(β), negative where the QoS is to be low, and `certain` [G, 1] what is added to it
    then; `threshold` [G, 1, 1, 1]. `std` and `weight` [G, 1, J, C] are empty where they depend on the allocations.
    """

    base: Tensor
    per_user: Tensor
    share: Tensor
    certain: Tensor
    threshold: Tensor
    std: Tensor
    weight: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Traffic":
        """Return it with every tensor changed."""
        return Traffic(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


def prepared(
    networks: Networks, users: Tensor, weights: Tensor, qos_threshold: Tensor, higher_is_better: bool
) -> Traffic:
    """Return what is known before the allocations, of `users` and `weights` [S, J] and `qos_threshold` [S]."""
    members = networks.members
    atoms = users.repeat_interleave(members, 0).unsqueeze(-1)
    share = (user_shares(users, weights) / members).repeat_interleave(members, 0)[:, None, :, None]
    std = weight = atoms.new_zeros(atoms.shape[0], 1, 0, 0)
    if networks.spread:
        count = networks.components
        output = _through(networks.spread, atoms, networks.activation)[-1].unsqueeze(1)
        std = _deviation(networks, output[..., :count])
        weight = _mixture_weight(output[..., count:], std)
    total = share.sum((2, 3))
    return Traffic(
        base=(atoms * networks.users + networks.bias).unsqueeze(1),
        per_user=(1.0 / torch.maximum(atoms, networks.users_floor)).unsqueeze(1),
        share=share if higher_is_better else -share,
        certain=torch.zeros_like(total) if higher_is_better else total,
        threshold=qos_threshold.repeat_interleave(members).view(-1, 1, 1, 1),
        std=std,
        weight=weight,
    )


class Pass:
    """The way forward at allocations [S, N, K], which keeps what the way back needs."""

    def __init__(self, networks: Networks, traffic: Traffic, allocations: Tensor) -> None:
        self._networks, self._traffic = networks, traffic
        members = networks.members
        resources = allocations.repeat_interleave(members, 0) if members > 1 else allocations
        first = traffic.base + torch.bmm(resources, networks.resources).unsqueeze(2)
        if networks.per_user.shape[1]:
            first = first + torch.bmm(resources, networks.per_user).unsqueeze(2) * traffic.per_user
        self._grid = first.shape[:3]
        hidden = activate(first, networks.activation).flatten(1, 2)
        self._layers = (*networks.hidden, *networks.heads)
        self._outputs = [hidden, *_through(self._layers, hidden, networks.activation)]
        output = self._on_grid(self._outputs[-1])
        self._deviation, self._weight = traffic.std, traffic.weight
        mean = output
        if not networks.spread:
            count = networks.components
            mean, self._raw, logit = output[..., :count], output[..., count : 2 * count], output[..., 2 * count :]
            self._deviation = _deviation(networks, self._raw)
            self._weight = _mixture_weight(logit, self._deviation)
        self._normal = (traffic.threshold - mean) / self._deviation
        self._part = traffic.share * self._weight
        self._missed = self._part * torch.special.ndtr(self._normal)

    def degradation(self) -> Tensor:
        """Return E(β), [S, N]."""
        missed: Tensor = self._missed.sum((2, 3)) + self._traffic.certain
        members = self._networks.members
        return missed if members == 1 else missed.view(-1, members, missed.shape[1]).sum(1)

    def slope(self) -> Tensor:
        """Return the gradient of E(β) by the allocations, [S, N, K]."""
        networks, activation = self._networks, self._networks.activation
        grad = self._slope_by_output().flatten(1, 2)
        for (weight, _), before in zip(reversed(self._layers), reversed(self._outputs[:-1]), strict=True):
            grad = _back(torch.bmm(grad, weight.mT), before, activation)
        first = self._on_grid(grad)
        slope = torch.bmm(first.sum(2), networks.resources.mT)
        if networks.per_user.shape[1]:
            slope = slope + torch.bmm((first * self._traffic.per_user).sum(2), networks.per_user.mT)
        members = networks.members
        return slope if members == 1 else slope.view(-1, members, *slope.shape[1:]).sum(1)

    def _slope_by_output(self) -> Tensor:
        """Return the gradient of E(β) by what comes out of the heads, [G, N, J, outputs]."""
        by_mean = (-_INVERSE_SQRT_2PI) * self._part * torch.exp(-0.5 * self._normal**2) / self._deviation
        if self._networks.spread:
            return by_mean
        by_std = by_mean * self._normal * self._networks.scale * torch.sigmoid(self._raw)
        if self._networks.components == 1:
            return torch.cat([by_mean, by_std], dim=-1)
        by_logit = self._missed - self._weight * self._missed.sum(-1, keepdim=True)
        return torch.cat([by_mean, by_std, by_logit], dim=-1)

    def _on_grid(self, values: Tensor) -> Tensor:
        return values.view(*self._grid, -1)


def _through(layers: Sequence[Layer], values: Tensor, activation: Activation) -> list[Tensor]:
    """Return what comes out of each layer, activated, but for the last one's."""
    outputs = []
    for index, (weight, bias) in enumerate(layers):
        values = torch.bmm(values, weight).add_(bias)
        if index < len(layers) - 1:
            values = activate(values, activation)
        outputs.append(values)
    return outputs


def _deviation(networks: Networks, output: Tensor) -> Tensor:
    return networks.scale * (functional.softplus(output) + STD_FLOOR)


def _mixture_weight(logit: Tensor, deviation: Tensor) -> Tensor:
    return torch.softmax(logit, dim=-1) if logit.shape[-1] else torch.ones_like(deviation)


def _back(grad: Tensor, output: Tensor, activation: Activation) -> Tensor:
    """Return the gradient by a layer's values from that by its activated output."""
    if activation == "tanh":
        return grad * (1.0 - output**2)
    # Both of the others are zero or the values themselves.
    return grad * (output != 0.0)
