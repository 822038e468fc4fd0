"""E(β) of slices whose models are stacked networks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from microopt_optimizer.solver.field import ROWS_PER_CALL
from microopt_optimizer.solver.network_pass import Pass, Traffic, prepared
from microopt_optimizer.solver.networks import Networks


class NetworkField:
    """The field of S slices, each with a network of its own; see `Field`."""

    def __init__(self, networks: Networks, traffic: Traffic) -> None:
        self._networks = networks
        self._traffic = traffic

    @staticmethod
    def of(
        networks: Networks, users: Tensor, weights: Tensor, qos_threshold: Tensor, higher_is_better: bool
    ) -> "NetworkField":
        """Return the field at traffic `users` and `weights` [S, J], and `qos_threshold` [S]."""
        return NetworkField(networks, prepared(networks, users, weights, qos_threshold, higher_is_better))

    @property
    def rows(self) -> int:
        """Return the rows of a point; see `Field`."""
        return self._traffic.share.numel()

    def value(self, allocations: Tensor) -> Tensor:
        """Return E(β); see `Field`."""
        return self._in_parts(allocations, lambda passed: (passed.degradation(),))[0]

    def value_and_slope(self, allocations: Tensor) -> tuple[Tensor, Tensor]:
        """Return E(β) and its gradient; see `Field`."""
        value, slope = self._in_parts(allocations, lambda passed: (passed.degradation(), passed.slope()))
        return value, slope.nan_to_num(nan=0.0)

    def select(self, rows: Sequence[int]) -> "NetworkField":
        """Return the field of some of its slices."""
        members = self._networks.members
        chosen = torch.tensor([row * members + member for row in rows for member in range(members)])
        return self._mapped(lambda tensor: tensor[chosen])

    def single(self) -> "NetworkField":
        """Return the field in single precision, for a first look."""
        return NetworkField(self._networks.single, self._traffic.map(lambda tensor: tensor.float()))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "NetworkField":
        return NetworkField(self._networks.map(change), self._traffic.map(change))

    def _in_parts(self, allocations: Tensor, results: Callable[[Pass], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the results of passes that take as many rows at once as fit a cache, in double precision."""
        members, atoms = self._networks.members, self._traffic.base.shape[2]
        slices, points, _ = allocations.shape
        together = max(1, ROWS_PER_CALL // max(1, members * points * atoms))
        at_once = max(1, ROWS_PER_CALL // (members * atoms))
        allocations = allocations.to(self._traffic.base.dtype)
        done = []
        for start in range(0, slices, together):
            field = self if together >= slices else self._slices(start, start + together)
            parts = torch.split(allocations[start : start + together], at_once, dim=1)
            each = [results(Pass(field._networks, field._traffic, part)) for part in parts]
            done.append([torch.cat(part, dim=1) if len(each) > 1 else part[0] for part in zip(*each, strict=True)])
        joined = [torch.cat(part) if len(done) > 1 else part[0] for part in zip(*done, strict=True)]
        value, *others = joined
        return (value.double().nan_to_num(nan=1.0), *(other.double() for other in others))

    def _slices(self, start: int, stop: int) -> "NetworkField":
        members = self._networks.members
        return self._mapped(lambda tensor: tensor[start * members : stop * members])
