"""Where to look first: a low-discrepancy look at the whole of the bounds, and starts picked from it."""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from microopt_optimizer.solver.batch import Batch

_MAX_CORNER_RESOURCES = 8
_SEPARATION = 0.08
_DIAGONAL = tuple(2.0**-power for power in range(1, 8))


@dataclass(frozen=True)
class Screened:
    """Points [S, N, K] of the unit cube that were evaluated, and E(β) there, [S, N]."""

    points: Tensor
    degradation: Tensor

    def starts(self, batch: Batch, count: int) -> Tensor:
        """Return `count` starts a slice [S, count, K]: half the cheapest feasible, half the best near-feasible.

        Starts of a kind keep a distance (Chebyshev) from each other, so that they fall into different basins.
        """
        excess = self.degradation - batch.target.unsqueeze(1)
        cost = (self.points * batch.units().unsqueeze(1)).sum(-1)
        feasible = torch.where(excess <= 0.0, cost, torch.inf)
        near = torch.where(excess > 0.0, cost + excess, torch.inf)
        picked = self._spread(torch.stack([feasible, near], dim=1), (count + 1) // 2)
        return picked.flatten(1, 2)[:, :count]

    def least_degraded(self, batch: Batch) -> Tensor:
        """Return the point with the least E(β) [S, K]; the cheapest of those that are equal within 1e-6."""
        cost = (self.points * batch.units().unsqueeze(1)).sum(-1)
        least = self.degradation.min(dim=1, keepdim=True).values
        score = torch.where(self.degradation <= least + 1e-6, cost, torch.inf)
        return _take(self.points, score.argmin(dim=1, keepdim=True)).squeeze(1)

    def _spread(self, score: Tensor, count: int) -> Tensor:
        """Return for scores [S, H, N] the points of `count` low ones that keep a distance, [S, count, H, K]."""
        chosen = []
        for _ in range(count):
            point = _take(self.points, score.argmin(dim=-1))
            chosen.append(point)
            far = (self.points.unsqueeze(1) - point.unsqueeze(2)).abs().amax(-1) >= _SEPARATION
            score = torch.where(far, score, torch.inf)
        return torch.stack(chosen, dim=1)


def screen(batch: Batch, count: int) -> Screened:
    """Evaluate `count` points of a Sobol set of fixed seed, the corners and the centre, in single precision.

    Where a point is just at the edge, its feasibility may be off by the rounding: starts may be, answers not.
    """
    points = _points(batch.floors.shape[1], count).to(batch.floors.device).expand(len(batch.position), -1, -1)
    return Screened(points, batch.field.single().value(batch.allocations(points)))


@lru_cache(maxsize=64)
def _points(resources: int, count: int) -> Tensor:
    with torch.device("cpu"):
        return torch.cat([_landmarks(resources), sobol_points(resources, count, 0)])


def sobol_points(resources: int, count: int, seed: int) -> Tensor:
    """Return `count` points of a scrambled Sobol set [count, K], on the CPU."""
    with torch.device("cpu"):
        sobol = torch.quasirandom.SobolEngine(resources, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
        return sobol.draw(count, dtype=torch.float64)


def _landmarks(resources: int) -> Tensor:
    if resources <= _MAX_CORNER_RESOURCES:
        corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=resources)), dtype=torch.float64)
    else:
        corners = torch.tensor([[0.0] * resources, [1.0] * resources], dtype=torch.float64)
    diagonal = torch.tensor(_DIAGONAL, dtype=torch.float64).unsqueeze(1).expand(-1, resources)
    return torch.cat([corners, diagonal])


def _take(points: Tensor, index: Tensor) -> Tensor:
    """Return points [S, M, K] by index [S, M]."""
    return points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
