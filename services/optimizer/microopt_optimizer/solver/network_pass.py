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
        spread = _through(networks.spread, atoms, networks.activation)[-1]
        std = _deviation(networks, _branch(networks.std, spread, networks.activation)[-1])
        weight = _mixture_weight(_branch(networks.logit, spread, networks.activation), std).unsqueeze(1)
        std = std.unsqueeze(1)
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
        activation, members = networks.activation, networks.members
        resources = allocations.repeat_interleave(members, 0) if members > 1 else allocations
        first = traffic.base + (resources @ networks.resources).unsqueeze(2)
        if networks.per_user.shape[1]:
            first = first + (resources @ networks.per_user).unsqueeze(2) * traffic.per_user
        self._grid = first.shape[:3]
        hidden = activate(first, activation).flatten(1, 2)
        self._trunk = [hidden, *_through(networks.hidden, hidden, activation)]
        last = self._trunk[-1]
        self._mean = _branch(networks.mean, last, activation)
        self._std, self._logit = [], []
        self._deviation, self._weight = traffic.std, traffic.weight
        if not networks.spread:
            self._std = _branch(networks.std, last, activation)
            self._logit = _branch(networks.logit, last, activation)
            self._deviation = self._on_grid(_deviation(networks, self._std[-1]))
            self._weight = _mixture_weight(self._logit, self._deviation)
        self._normal = (traffic.threshold - self._on_grid(self._mean[-1])) / self._deviation
        self._below = torch.special.ndtr(self._normal)

    def degradation(self) -> Tensor:
        """Return E(β), [S, N]."""
        below: Tensor = (self._weight * self._below).sum(-1, keepdim=True)
        missed = (self._traffic.share * below).sum((2, 3)) + self._traffic.certain
        members = self._networks.members
        return missed if members == 1 else missed.view(-1, members, missed.shape[1]).sum(1)

    def slope(self) -> Tensor:
        """Return the gradient of E(β) by the allocations, [S, N, K]."""
        networks, activation = self._networks, self._networks.activation
        density = _INVERSE_SQRT_2PI * torch.exp(-0.5 * self._normal**2)
        by_mean = -(self._traffic.share * self._weight * density) / self._deviation
        hidden = _back_branch(networks.mean, self._mean, by_mean.flatten(1, 2), activation)
        if not networks.spread:
            by_std = by_mean * self._normal * networks.scale.unsqueeze(-1)
            by_output = by_std.flatten(1, 2) * torch.sigmoid(self._std[-1])
            hidden = hidden + _back_branch(networks.std, self._std, by_output, activation)
        if self._logit:
            by_weight = self._traffic.share * self._below
            by_logit = self._weight * (by_weight - (self._weight * by_weight).sum(-1, keepdim=True))
            hidden = hidden + _back_branch(networks.logit, self._logit, by_logit.flatten(1, 2), activation)
        for (weight, _), output in zip(reversed(networks.hidden), reversed(self._trunk[1:]), strict=True):
            hidden = _back(hidden, output, activation) @ weight.mT
        first = self._on_grid(_back(hidden, self._trunk[0], activation))
        slope = first.sum(2) @ networks.resources.mT
        if networks.per_user.shape[1]:
            slope = slope + (first * self._traffic.per_user).sum(2) @ networks.per_user.mT
        members = networks.members
        return slope if members == 1 else slope.view(-1, members, *slope.shape[1:]).sum(1)

    def _on_grid(self, values: Tensor) -> Tensor:
        return values.view(*self._grid, -1)


def _through(layers: Sequence[Layer], values: Tensor, activation: Activation) -> list[Tensor]:
    """Return what comes out of each layer, activated."""
    outputs = []
    for weight, bias in layers:
        values = activate(torch.baddbmm(bias, values, weight), activation)
        outputs.append(values)
    return outputs


def _branch(layers: Sequence[Layer], values: Tensor, activation: Activation) -> list[Tensor]:
    """Return what comes out of each layer; the last one's is not activated."""
    if not layers:
        return []
    outputs = _through(layers[:-1], values, activation)
    weight, bias = layers[-1]
    return [*outputs, torch.baddbmm(bias, outputs[-1] if outputs else values, weight)]


def _deviation(networks: Networks, output: Tensor) -> Tensor:
    return networks.scale * (functional.softplus(output) + STD_FLOOR)


def _mixture_weight(logit: Sequence[Tensor], deviation: Tensor) -> Tensor:
    if not logit:
        return torch.ones_like(deviation)
    return torch.softmax(logit[-1], dim=-1).view_as(deviation)


def _back_branch(
    layers: Sequence[Layer], outputs: Sequence[Tensor], grad: Tensor, activation: Activation
) -> Tensor:
    """Return the gradient by what went into a branch, from that by its last output."""
    for index in range(len(layers) - 1, -1, -1):
        if index < len(layers) - 1:
            grad = _back(grad, outputs[index], activation)
        grad = grad @ layers[index][0].mT
    return grad


def _back(grad: Tensor, output: Tensor, activation: Activation) -> Tensor:
    """Return the gradient by a layer's values from that by its activated output."""
    if activation == "tanh":
        return grad * (1.0 - output**2)
    # Both of the others are zero or the values themselves.
    return grad * (output != 0.0)
