"""Where to look first: a low-discrepancy look at the whole of the bounds, and starts picked from it."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from microopt_optimizer.solver.batch import Batch

SCREEN_POINTS = 1024
_FEWEST_POINTS = 64
_SCREEN_ROWS = 1_000_000  # atoms evaluated in all, so that many slices are looked at more coarsely, not too late
_MAX_CORNER_RESOURCES = 8
_SEPARATION = 0.08


@dataclass(frozen=True)
class Screened:
    """Points [S, N, K] of the unit cube that were evaluated, and E(β) there, [S, N]."""

    points: Tensor
    degradation: Tensor

    def best(self, batch: Batch, count: int, separation: float = _SEPARATION) -> Tensor:
        """Return `count` starts a slice [S, count, K]: half the cheapest feasible, half the best near-feasible.

        Starts of a kind keep `separation` (Chebyshev) from each other, so that they fall into different basins.
        """
        excess = self.degradation - batch.target.unsqueeze(1)
        cost = (self.points * batch.units().unsqueeze(1)).sum(-1)
        infinite = torch.full_like(cost, torch.inf)
        feasible = torch.where(excess <= 0.0, cost, infinite)
        near = torch.where(excess > 0.0, cost + excess, infinite)
        picked = [self._spread(score, count // 2, separation) for score in (feasible, near)]
        return torch.cat(picked, dim=1)

    def cheapest_feasible(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the cheapest feasible point [S, K], and whether there is one, [S]."""
        cost = (self.points * batch.units().unsqueeze(1)).sum(-1)
        score = torch.where(self.degradation <= batch.target.unsqueeze(1), cost, torch.inf)
        value, index = score.min(dim=1)
        return _take(self.points, index.unsqueeze(1)).squeeze(1), torch.isfinite(value)

    def least_degraded(self, batch: Batch) -> Tensor:
        """Return the point with the least E(β) [S, K]; the cheapest of those that are equal within 1e-6."""
        cost = (self.points * batch.units().unsqueeze(1)).sum(-1)
        least = self.degradation.min(dim=1, keepdim=True).values
        score = torch.where(self.degradation <= least + 1e-6, cost, torch.inf)
        return _take(self.points, score.argmin(dim=1, keepdim=True)).squeeze(1)

    def with_points(self, points: Tensor, degradation: Tensor) -> "Screened":
        """Return these points and more."""
        return Screened(torch.cat([self.points, points], dim=1), torch.cat([self.degradation, degradation], dim=1))

    def _spread(self, score: Tensor, count: int, separation: float) -> Tensor:
        score = score.clone()
        chosen = []
        for _ in range(count):
            point = _take(self.points, score.argmin(dim=1, keepdim=True))
            chosen.append(point)
            score[(self.points - point).abs().amax(-1) < separation] = torch.inf
        return torch.cat(chosen, dim=1)


def screen(batch: Batch) -> Screened:
    """Evaluate a scrambled Sobol set of fixed seed, the corners and the centre for every slice."""
    count = _SCREEN_ROWS // max(1, batch.users.numel())
    resources = batch.floors.shape[1]
    sobol = torch.quasirandom.SobolEngine(resources, scramble=True, seed=0)  # type: ignore[no-untyped-call]
    drawn = sobol.draw(min(SCREEN_POINTS, max(_FEWEST_POINTS, count)), dtype=torch.float64)
    points = torch.cat([_landmarks(resources), drawn]).expand(len(batch.position), -1, -1)
    return Screened(points, batch.degradation(points))


def _landmarks(resources: int) -> Tensor:
    if resources <= _MAX_CORNER_RESOURCES:
        corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=resources)), dtype=torch.float64)
    else:
        corners = torch.tensor([[0.0] * resources, [1.0] * resources], dtype=torch.float64)
    return torch.cat([corners, torch.full((1, resources), 0.5, dtype=torch.float64)])


def _take(points: Tensor, index: Tensor) -> Tensor:
    """Return points [S, M, K] by index [S, M]."""
    return points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
