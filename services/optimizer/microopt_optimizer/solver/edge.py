"""Points on the constraint's edge: what slices can offer when capacities are short, and what lowering leads to."""

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.screen import Screened, sobol_points

_POINTS = 32
_HALVINGS = 14
_LOWERING_HALVINGS = 20
_TRADES = 8
_LEAST_TRADED = 1e-4


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
    points = _bisected(batch, every, axis, low, high)
    return Screened(points, batch.degradation(points))


def traded(batch: Batch, points: Tensor, resource: int) -> Screened:
    """Return points of the edge [S, 8, K] with less of one resource than `points` [S, K], and more of the others.

    The others go up to their ceilings in equal ratios. Where even that is not feasible with as much of the one as
    at first, points come back with their E(β), which says so.
    """
    steps = torch.linspace(1.0 / _TRADES, 1.0, _TRADES, dtype=points.dtype, device=points.device)
    others = points.clamp(min=_LEAST_TRADED).unsqueeze(1) ** (1.0 - steps).view(1, -1, 1)
    axis = torch.zeros_like(others)
    axis[..., resource] = 1.0
    high = points[:, resource : resource + 1].expand(-1, _TRADES)
    edge = _bisected(batch, others, axis, torch.zeros_like(high), high)
    return Screened(edge, batch.degradation(edge))


def lowered(batch: Batch, points: Tensor, clock: Clock) -> Tensor:
    """Return points [S, K] with one resource after the other, dearest first, at the least that holds the SLA."""
    order = (points * batch.units()).argsort(dim=1, descending=True)
    for place in range(points.shape[1]):
        if clock.expired:
            break
        axis = torch.zeros_like(points).scatter(1, order[:, place : place + 1], 1.0).unsqueeze(1)
        high = (points.unsqueeze(1) * axis).sum(-1)
        points = _bisected(
            batch, points.unsqueeze(1), axis, torch.zeros_like(high), high, _LOWERING_HALVINGS
        ).squeeze(1)
    return points


def _bisected(
    batch: Batch, points: Tensor, axis: Tensor, low: Tensor, high: Tensor, halvings: int = _HALVINGS
) -> Tensor:
    """Return points [S, N, K] with, along an axis each, the least from `low` to `high` [S, N] that is feasible."""
    for _ in range(halvings):
        half = 0.5 * (low + high)
        inside = batch.degradation(_with(points, axis, half)) <= batch.target.unsqueeze(1)
        low, high = torch.where(inside, low, half), torch.where(inside, half, high)
    return _with(points, axis, high)


def _with(points: Tensor, axis: Tensor, values: Tensor) -> Tensor:
    return points * (1.0 - axis) + values.unsqueeze(-1) * axis
