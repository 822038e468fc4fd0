"""The slice model f_QoS of the paper (§IV-A, §VI-A1): from users and resources to the distribution of the QoS."""

import itertools
import math
from typing import Annotated, Literal

import torch
from msgspec import Meta, Struct
from torch import Tensor, nn
from torch.nn import functional

from microopt_optimizer.slice_model.distribution import QosDistribution

STD_FLOOR = 1e-3
"""Times the QoS's scale: no network is ever certain."""

Activation = Literal["relu", "mixed", "tanh"]
Monotone = Literal["no", "rising", "falling"]


def even_width(activation: Activation, width: int) -> None:
    """Raise ValueError where an activation cannot do with an odd width."""
    if activation == "mixed" and width % 2:
        raise ValueError(f"width {width}: activation 'mixed' halves a layer, which takes an even width")


class Architecture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a slice model: inputs are the users and the resources, in this order. Default: the paper's.

    `components` is the number of normal distributions mixed, `members` that of an ensemble's networks, whose
    distributions are mixed in equal parts. `per_user` adds each resource divided by the users as an input.
    `monotone`: the QoS rises (falls) with every resource for certain, at every quantile: means do, while standard
    deviations and mixture weights depend on the users alone. `mixed` activation is ReLU in the first half of a
    layer and its mirror image, min(0, x), in the other: piecewise linear, and monotone without being convex.
    """

    inputs: Annotated[int, Meta(ge=2, le=64)]
    width: Annotated[int, Meta(ge=1, le=1024)] = 16
    depth: Annotated[int, Meta(ge=1, le=16)] = 3
    activation: Activation = "relu"
    components: Annotated[int, Meta(ge=1, le=32)] = 1
    members: Annotated[int, Meta(ge=1, le=64)] = 1
    per_user: bool = False
    monotone: Monotone = "no"

    def __post_init__(self) -> None:
        even_width(self.activation, self.width)

    @property
    def resources(self) -> int:
        """Return the number of resources, K."""
        return self.inputs - 1

    @property
    def features(self) -> int:
        """Return how many numbers the first layer takes."""
        return self.inputs + (self.resources if self.per_user else 0)


class MemberLinear(nn.Module):
    """Linear layers of all members at once, [M, rows, before] to [M, rows, after], each begun as torch begins one.

    The weights of the inputs from `rising` on are never negative.
    """

    def __init__(self, members: int, before: int, after: int, *, rising: int | None = None) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(before)
        self.weight = nn.Parameter(torch.empty(members, before, after).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, after).uniform_(-bound, bound))
        self.rising = before if rising is None else rising

    def effective(self) -> Tensor:
        """Return the weights [M, before, after] that are multiplied with."""
        if self.rising >= self.weight.shape[1]:
            return self.weight
        return torch.cat([self.weight[:, : self.rising], self.weight[:, self.rising :].abs()], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layers' outputs."""
        return torch.baddbmm(self.bias, inputs, self.effective())


def activate(values: Tensor, activation: Activation) -> Tensor:
    """Return the values [..., width] after an activation."""
    if activation == "relu":
        return torch.relu(values)
    if activation == "tanh":
        return torch.tanh(values)
    half = values.shape[-1] // 2
    return torch.cat([values[..., :half].clamp(min=0.0), values[..., half:].clamp(max=0.0)], dim=-1)


class SliceModel(nn.Module):
    """The paper's network: batch norm, shared hidden layers, and a branch each for mean and standard deviation.

    A mixture has a third branch, for its weights. A monotone network has no shared layers: `spread_trunk`, from
    the users alone, leads to standard deviations and weights. `qos_offset` and `qos_scale` take the QoS's unit out
    of training (0 and 1: the printed model); `users_floor` keeps the resources per user finite.
    """

    qos_offset: Tensor
    qos_scale: Tensor
    users_floor: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        monotone = architecture.monotone != "no"
        # Its own scale could turn an input around.
        self.norm = nn.BatchNorm1d(architecture.members * architecture.features, affine=not monotone)
        self.trunk = _trunk(architecture, architecture.features, rising=1 if monotone else None)
        self.spread_trunk = _trunk(architecture, 1) if monotone else nn.ModuleList()
        self.mean = _branch(architecture, rising=monotone)
        self.std = _branch(architecture)
        self.logit = _branch(architecture) if architecture.components > 1 else nn.ModuleList()
        self.register_buffer("qos_offset", torch.zeros(()))
        self.register_buffer("qos_scale", torch.ones(()))
        self.register_buffer("users_floor", torch.ones(()))

    @property
    def direction(self) -> float:
        """Return 1, or −1 where the QoS is to fall with the resources."""
        return -1.0 if self.architecture.monotone == "falling" else 1.0

    def forward(self, users: Tensor, resources: Tensor) -> QosDistribution:
        """Return the distribution of the QoS, in its unit (paper eq. 3): all members' components together.

        `users` has shape [...] and `resources` [..., K]; the leading dimensions broadcast and are returned.
        """
        shape = (users + resources[..., 0]).shape
        users = users.expand(shape).reshape(1, -1)
        resources = resources.expand(*shape, resources.shape[-1]).reshape(1, users.shape[1], -1)
        members = self.architecture.members
        each = self.each(users.expand(members, -1), resources.expand(members, -1, -1))
        weight, mean, std = (part.movedim(0, 1).reshape(*shape, -1) for part in each)
        return QosDistribution(weight / members, mean, std)

    def each(self, users: Tensor, resources: Tensor) -> QosDistribution:
        """Return each member's distribution [M, N, C] for rows of its own: users [M, N], resources [M, N, K]."""
        features = self._normalised(self.features(users, resources))
        hidden = self._through(self.trunk, features)
        spread = self._through(self.spread_trunk, features[..., :1]) if len(self.spread_trunk) else hidden
        mean = self.qos_offset + self.qos_scale * self.direction * self._through(self.mean, hidden, last=True)
        std = self.qos_scale * (functional.softplus(self._through(self.std, spread, last=True)) + STD_FLOOR)
        if not len(self.logit):
            return QosDistribution(torch.ones_like(mean), mean, std)
        return QosDistribution(torch.softmax(self._through(self.logit, spread, last=True), dim=-1), mean, std)

    def features(self, users: Tensor, resources: Tensor) -> Tensor:
        """Return the network's inputs [..., F] from users [...] and resources [..., K]."""
        users = users.unsqueeze(-1)
        if not self.architecture.per_user:
            return torch.cat([users, resources], dim=-1)
        return torch.cat([users, resources, resources / torch.maximum(users, self.users_floor)], dim=-1)

    def _normalised(self, features: Tensor) -> Tensor:
        """Return features [M, N, F] normalised for each member by itself."""
        members, rows, count = features.shape
        flat: Tensor = self.norm(features.movedim(0, 1).reshape(rows, members * count))
        return flat.view(rows, members, count).movedim(1, 0)

    def _through(self, layers: nn.ModuleList, values: Tensor, *, last: bool = False) -> Tensor:
        """Return what comes out of layers; the `last` one has no activation."""
        for index, layer in enumerate(layers):
            values = layer(values)
            if not (last and index == len(layers) - 1):
                values = activate(values, self.architecture.activation)
        return values


def _trunk(architecture: Architecture, inputs: int, rising: int | None = None) -> nn.ModuleList:
    widths = [inputs, *[architecture.width] * architecture.depth]
    return nn.ModuleList(
        MemberLinear(architecture.members, before, after, rising=rising if index == 0 or rising is None else 0)
        for index, (before, after) in enumerate(itertools.pairwise(widths))
    )


def _branch(architecture: Architecture, *, rising: bool = False) -> nn.ModuleList:
    widths = (architecture.width, architecture.width, architecture.components)
    return nn.ModuleList(
        MemberLinear(architecture.members, before, after, rising=0 if rising else None)
        for before, after in itertools.pairwise(widths)
    )
