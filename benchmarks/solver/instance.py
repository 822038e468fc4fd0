"""One slice's problem as the peers see it: a linear cost and E(β) over the unit cube, with gradients."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microopt.messages import Problem
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import TrainedModel

_ROWS = 4_096
"""Rows of the network in one call; with more, what is between its layers leaves the processor's cache."""

Floats = NDArray[np.float64]


class Instance:
    """Points are rows in [0, 1]^K, from the floors to the ceilings, in the order of the model's resources.

    `cost` is a share of what the ceilings cost above the floors, so that every peer works with numbers near 1.
    """

    def __init__(self, problem: Problem, model: TrainedModel, *, prices: Tensor | None = None) -> None:
        (one,) = problem.slices
        self.problem, self.model, self.asked = problem, model, one
        self.names = model.header.resource_names
        self.dimension = len(self.names)
        self.floor = _tensor(one.bounds[name].floor for name in self.names)
        self.span = _tensor(one.bounds[name].ceiling for name in self.names) - self.floor
        weights = _tensor(problem.resources[name].weight for name in self.names)
        self.unit_cost = weights if prices is None else weights + prices
        self.slope_of_cost = self.unit_cost * self.span / (self.unit_cost * self.span).sum()
        self._users, self._weights = _tensor(one.traffic.users), _tensor(one.traffic.weights)
        self._qos = one.sla.qos_threshold
        self.threshold = one.sla.degradation_threshold

    def cost(self, points: Tensor) -> Tensor:
        """Return the cost of points [..., K] as a share."""
        return points @ self.slope_of_cost

    def degradation(self, points: Tensor) -> Tensor:
        """Return E(β) [N] at points [N, K]."""
        rows = max(1, _ROWS // len(self._users))
        with torch.no_grad():
            return torch.cat([self._at(part) for part in torch.split(points, rows)])

    def degradation_and_slope(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return E(β) [N] at points [N, K] and its gradient [N, K]."""
        leaf = points.detach().clone().requires_grad_(True)
        value = self._at(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), slope

    def allocation(self, point: Tensor) -> dict[str, float]:
        """Return a point [K] in the resources' units, within the bounds in spite of rounding."""
        values = (self.floor + self.span * point).tolist()
        bounds = self.asked.bounds
        return {
            name: min(max(value, bounds[name].floor), bounds[name].ceiling)
            for name, value in zip(self.names, values, strict=True)
        }

    def _at(self, points: Tensor) -> Tensor:
        resources = self.floor + self.span * points
        return expected_degradation(self.model, self._users, self._weights, resources, self._qos)


def _tensor(values) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
