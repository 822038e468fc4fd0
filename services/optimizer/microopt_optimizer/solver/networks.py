"""Slice models of one architecture as one stack of weights, so that one operation serves many slices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from microopt.errors import ModelError
from microopt_optimizer.slice_model.network import Activation, MemberLinear, SliceModel

Layer = tuple[Tensor, Tensor]
"""Weights [G, before, after] and biases [G, 1, after]."""


@dataclass(frozen=True)
class Networks:
    """The weights of S slice models with M members each: G = S M networks; normalisation and scales are folded in.

    The first layer is kept in parts, by what its inputs depend on: `users` [G, 1, W], `resources` [G, K, W] and
    `per_user` [G, K, W] (empty, K = 0, where the resources per user are no inputs), with `bias` [G, 1, W].
    `hidden` are the other shared layers. `heads` lead from there to means, standard deviations and, of mixtures,
    weights, side by side: one wide layer takes half the time of three narrow ones. Where `spread` is not empty, it
    leads from the users alone to the latter two, and `heads` to the means only. `scale` (the QoS's) has
    shape [G, 1, 1, 1] and `users_floor` [G, 1, 1].
    """

    activation: Activation
    members: int
    components: int
    users: Tensor
    resources: Tensor
    per_user: Tensor
    bias: Tensor
    hidden: tuple[Layer, ...]
    heads: tuple[Layer, ...]
    spread: tuple[Layer, ...]
    scale: Tensor
    users_floor: Tensor

    @cached_property
    def single(self) -> "Networks":
        """The networks in single precision."""
        return self.map(lambda tensor: tensor.float())

    def map(self, change: Callable[[Tensor], Tensor]) -> "Networks":
        """Return the networks with every tensor changed, such as to another dtype or to some of the slices."""
        return _combined([self], lambda tensors: change(tensors[0]))


def stack(models: Sequence[SliceModel]) -> Networks:
    """Return the weights of models of one architecture."""
    return _combined([_folded(model) for model in models], torch.cat)


def _combined(parts: Sequence[Networks], combine: Callable[[list[Tensor]], Tensor]) -> Networks:
    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Tensor):
            return combine(values)
        if isinstance(values[0], tuple):
            return tuple(
                (combine([weight for weight, _ in layer]), combine([bias for _, bias in layer]))
                for layer in zip(*values, strict=True)
            )
        return values[0]

    return replace(parts[0], **{field.name: joined(field.name) for field in fields(Networks)})


def _folded(model: SliceModel) -> Networks:
    architecture = model.architecture
    members, count = architecture.members, architecture.resources
    factor, offset = (part.view(members, -1, 1) for part in _normalisation(model.norm))
    weight, bias = _layers(model.trunk)[0]
    bias = bias + (offset * weight).sum(1, keepdim=True)
    weight = factor * weight
    spread = list(_layers(model.spread_trunk))
    if spread:
        users_weight, users_bias = spread[0]
        spread[0] = (factor[:, :1] * users_weight, users_bias + offset[:, :1] * users_weight)
    sign = model.qos_scale * model.direction
    *before, (last_weight, last_bias) = _layers(model.mean)
    mean = (*before, (sign * last_weight, sign * last_bias + model.qos_offset))
    others = [layers for layers in (_layers(model.std), _layers(model.logit)) if layers]
    ones = torch.ones(members, 1, 1, dtype=weight.dtype, device=weight.device)
    return Networks(
        activation=architecture.activation,
        members=members,
        components=architecture.components,
        users=weight[:, :1],
        resources=weight[:, 1 : 1 + count],
        per_user=weight[:, 1 + count :],
        bias=bias,
        hidden=_layers(model.trunk)[1:],
        heads=mean if spread else _side_by_side([mean, *others], architecture.activation),
        spread=(*spread, *_side_by_side(others, architecture.activation)) if spread else (),
        scale=(model.qos_scale * ones).unsqueeze(-1),
        users_floor=model.users_floor * ones,
    )


def _layers(modules: nn.ModuleList) -> tuple[Layer, ...]:
    linear = (module for module in modules if isinstance(module, MemberLinear))
    return tuple((module.effective().detach(), module.bias.detach()) for module in linear)


def _side_by_side(branches: Sequence[tuple[Layer, ...]], activation: Activation) -> tuple[Layer, ...]:
    """Return branches of two layers from the same inputs as one branch, whose outputs follow each other."""
    first, last = ([branch[index] for branch in branches] for index in (0, 1))
    weight, bias = (torch.cat(parts, dim=-1) for parts in zip(*first, strict=True))
    members = [
        torch.block_diag(*(layer[member] for layer, _ in last))  # type: ignore[no-untyped-call]
        for member in range(weight.shape[0])
    ]
    onward = torch.stack(members)
    if activation == "mixed":  # which treats the first half of what it is given otherwise than the second
        halves = [torch.arange(layer.shape[-1]) >= layer.shape[-1] // 2 for layer, _ in first]
        order = torch.cat(halves).to(torch.int8).argsort(stable=True)
        weight, bias, onward = weight[..., order], bias[..., order], onward[:, order]
    return (weight, bias), (onward, torch.cat([bias for _, bias in last], dim=-1))


def _normalisation(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return what a batch norm in evaluation multiplies by and then adds."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ModelError("a batch norm without running statistics cannot be evaluated; train the model again")
    factor = 1.0 / torch.sqrt(variance + norm.eps)
    if not norm.affine:
        return factor, -mean * factor
    factor = factor * norm.weight.detach()
    return factor, norm.bias.detach() - mean * factor
