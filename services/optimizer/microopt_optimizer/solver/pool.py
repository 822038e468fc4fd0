"""A problem as a solver keeps it: batches by model, and allocations [S, R] over all of the pool's resources."""

from copy import copy

import torch
from torch import Tensor

from microopt.messages import Problem, SliceProblem
from microopt_optimizer.solver.base import Models
from microopt_optimizer.solver.batch import Batch, Cube
from microopt_optimizer.solver.grouping import batches


class Pool:
    """S slices in the problem's order, R resources in the order of `names`; what a slice lacks is 0 to 0."""

    def __init__(self, problem: Problem, models: Models) -> None:
        self.problem = problem
        self.models = models
        self.names = tuple(problem.resources)
        specs = [problem.resources[name] for name in self.names]
        self.weights = torch.tensor([spec.weight for spec in specs], dtype=torch.float64)
        self.capacity = torch.tensor([spec.capacity for spec in specs], dtype=torch.float64)
        self.floors = self._bounds("floor")
        self.ceilings = self._bounds("ceiling")
        self.batches = batches(problem, models)

    @property
    def slices(self) -> list[SliceProblem]:
        """Return the slices of the problem."""
        return self.problem.slices

    def with_batches(self, batches: list[Batch]) -> "Pool":
        """Return the pool with other batches of its slices."""
        other = copy(self)
        other.batches = batches
        return other

    def spread(self, batch: Cube, allocations: Tensor) -> Tensor:
        """Return a batch's allocations [S, N, K] over all of the pool's resources, [S, N, R]."""
        spread = torch.zeros(*allocations.shape[:-1], len(self.names), dtype=torch.float64)
        return spread.scatter_(-1, batch.columns.unsqueeze(1).expand_as(allocations), allocations)

    def gather(self, batch: Cube, allocations: Tensor) -> Tensor:
        """Return of allocations [S, R] of all slices those of a batch's, in its models' order, [S, K]."""
        return allocations[list(batch.position)].gather(1, batch.columns)

    def degradation(self, allocations: Tensor) -> Tensor:
        """Return E(β) [S] at allocations [S, R], in float64; 0 for slices without traffic."""
        degradation = torch.zeros(len(self.slices), dtype=torch.float64)
        for batch in self.batches:
            degradation[list(batch.position)] = batch.at(self.gather(batch, allocations))
        return degradation

    def within_capacity(self, allocations: Tensor) -> bool:
        """Return whether the allocations' sum is within every capacity."""
        return bool((allocations.sum(0) <= self.capacity).all())

    def _bounds(self, side: str) -> Tensor:
        rows = [
            [getattr(one.bounds[name], side) if name in one.bounds else 0.0 for name in self.names]
            for one in self.problem.slices
        ]
        return torch.tensor(rows, dtype=torch.float64)
