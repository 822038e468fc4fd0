"""Points on the constraint's edge, near or far: what slices can offer when capacities are short."""

import torch
from torch import Tensor

from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.screen import Screened, sobol_points

_POINTS = 32
_HALVINGS = 14


def edge_points(batch: Batch, centre: Tensor, radius: float) -> Screened:
    """Return feasible points of the edge, or on bounds, within `radius` (Chebyshev) of `centre` [S, K].

    For each resource, 32 combinations of the others are tried, and the least of it that is feasible is bisected.
    Points where even the most of it is not feasible come back as they are, with their E(β).
    """
    resources = centre.shape[1]
    offsets = ((2.0 * sobol_points(resources, _POINTS, 1) - 1.0) * radius).to(centre.device)
    around = torch.clamp(centre.unsqueeze(1) + offsets, 0.0, 1.0)
    every = around.repeat(1, resources, 1)
    axis = torch.eye(resources, dtype=torch.float64).repeat_interleave(_POINTS, dim=0).expand_as(every)
    middle = (centre.unsqueeze(1) * axis).sum(-1)
    low, high = (middle - radius).clamp(min=0.0), (middle + radius).clamp(max=1.0)
    for _ in range(_HALVINGS):
        half = 0.5 * (low + high)
        inside = batch.degradation(_with(every, axis, half)) <= batch.target.unsqueeze(1)
        low, high = torch.where(inside, low, half), torch.where(inside, half, high)
    points = _with(every, axis, high)
    return Screened(points, batch.degradation(points))


def _with(points: Tensor, axis: Tensor, values: Tensor) -> Tensor:
    return points * (1.0 - axis) + values.unsqueeze(-1) * axis
