"""What the peers share: points to begin with, and the best point seen."""

import torch
from torch import Tensor

from solver.instance import Instance

STRICT = 1e-12
"""Taken off the threshold, so that a sum in another order does not turn a feasible point into one that is not."""


class Search:
    """Evaluates points of an instance and keeps the cheapest feasible one."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.best: Tensor | None = None
        self.cost = float("inf")
        self.evaluations = 0

    def look(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return cost [N] and E(β) − β [N] at points [N, K] of the unit cube."""
        excess = self.instance.degradation(points) - self.instance.threshold
        cost = self.instance.cost(points)
        self.note(points, cost, excess)
        return cost, excess

    def note(self, points: Tensor, cost: Tensor, excess: Tensor) -> None:
        """Keep what is better than the best point so far."""
        self.evaluations += len(points)
        held = torch.where(excess <= -STRICT, cost, torch.inf)
        least, index = held.min(0)
        if float(least) < self.cost:
            self.cost, self.best = float(least), points[index].clone()


def scattered(dimension: int, count: int, seed: int) -> Tensor:
    """Return scrambled Sobol points, the first of them replaced by all ceilings."""
    points = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    points[0] = 1.0
    return points
