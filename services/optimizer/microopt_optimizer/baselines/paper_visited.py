"""The points of one batch that the outer loop of Algorithm 1 has come to, and what they are worth."""

import torch
from torch import Tensor

from microopt_optimizer.baselines.model_batch import ModelBatch


class Visited:
    """Points [S, N, K] of the unit cube with the E(β) that judges them, [S, N]."""

    def __init__(self, batch: ModelBatch, points: Tensor, degradation: Tensor) -> None:
        self._batch = batch
        self._points = points
        self._degradation = degradation

    def add(self, points: Tensor, degradation: Tensor) -> None:
        """Keep more points [S, n, K] with their E(β) [S, n]."""
        self._points = torch.cat([self._points, points], dim=1)
        self._degradation = torch.cat([self._degradation, degradation], dim=1)

    @property
    def feasible(self) -> Tensor:
        """Return which slices have a feasible point, [S]."""
        return (self._degradation <= self._batch.target.unsqueeze(1)).any(1)

    def best(self, capacity_prices: Tensor) -> Tensor:
        """Return each slice's cheapest feasible allocation [S, K] at prices η + μ, else the least degraded."""
        allocations = self._batch.allocations(self._points)
        cost = (allocations * (self._batch.prices + capacity_prices).unsqueeze(1)).sum(-1)
        within = self._degradation <= self._batch.target.unsqueeze(1)
        cheapest = torch.where(within, cost, torch.inf).argmin(1)
        chosen = torch.where(within.any(1), cheapest, self._degradation.argmin(1))
        return allocations[torch.arange(len(chosen)), chosen]
