"""The last stage: from feasible points along the constraint's edge to where no cheaper point is near."""

from dataclasses import dataclass

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.refine import value_and_slope

_FIRST_RADIUS = 0.05
_LAST_RADIUS = 1e-4
_MAX_ROUNDS = 40
_SHRINK = 0.3
_LADDER = (1.0, 0.3, 0.1)
_SECANT_STEPS = 3
_REACH = 1.5


@dataclass(frozen=True)
class Polished:
    """For each start [S, P]: a strictly feasible point, its cost, its radius at the end.

    `cost` is a share of the spans' cost. `settled` says that a poll within the last radius found nothing cheaper.
    """

    points: Tensor
    cost: Tensor
    settled: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """Return the cheapest point of each slice [S, K] and whether it is settled [S]."""
        index = self.cost.argmin(dim=1, keepdim=True)
        point = self.points.gather(1, index.unsqueeze(-1).expand(-1, -1, self.points.shape[-1]))
        return point.squeeze(1), self.settled.gather(1, index).squeeze(1)


def polish(batch: Batch, points: Tensor, clock: Clock) -> Polished:
    """Move strictly feasible points [S, P, K] to cheaper ones until nothing near them is cheaper.

    A round polls, at three scales of a radius, the descent of cost along the edge, its reverse, and every resource
    up and down; each poll point is brought back to the edge along the gradient of E(β). The radius grows with
    success and shrinks without. Only points that were evaluated and are strictly feasible are ever taken, so a
    model that is not monotone costs optimality at worst, never feasibility.
    """
    units = batch.units().unsqueeze(1)
    points = points.clone()
    cost = (points * units).sum(-1)
    radius = torch.full_like(cost, _FIRST_RADIUS)
    for _ in range(_MAX_ROUNDS):
        if clock.expired or bool((radius <= _LAST_RADIUS).all()):
            break
        _, slope = value_and_slope(batch, points)
        polled, feasible = _poll(batch, points, slope, radius)
        price = torch.where(feasible, (polled * units.unsqueeze(2)).sum(-1), torch.inf)
        least, index = price.min(dim=2)
        better = least < cost - 1e-9
        chosen = polled.gather(2, index[..., None, None].expand(-1, -1, 1, points.shape[-1])).squeeze(2)
        # Worth a larger radius only if the gain is of the radius's order: creeping must shrink it.
        worthwhile = cost - least > 0.02 * radius
        points = torch.where(better.unsqueeze(-1), chosen, points)
        cost = torch.where(better, least, cost)
        radius = torch.where(worthwhile, torch.clamp(1.5 * radius, max=0.2), _SHRINK * radius)
    return Polished(points, cost, radius <= _LAST_RADIUS)


def _poll(batch: Batch, points: Tensor, slope: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return poll points [S, P, D, K], just inside the edge where it is met, and which are feasible."""
    directions = _directions(batch, points, slope)
    scales = radius[..., None, None, None] * torch.tensor(_LADDER, dtype=points.dtype)[:, None]
    moved = points[:, :, None, None, :] + scales * directions.unsqueeze(3)
    moved = torch.clamp(moved, 0.0, 1.0).flatten(2, 3)
    back = -slope / slope.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    count = directions.shape[2]
    reach = (_REACH * scales[..., 0]).expand(-1, -1, count, -1).flatten(2, 3)
    return _to_edge(batch, moved, back.unsqueeze(2), reach)


def _directions(batch: Batch, points: Tensor, slope: Tensor) -> Tensor:
    """Return directions [S, P, 2 + 2K, K], the greatest component of each 1."""
    units = batch.units().unsqueeze(1).expand_as(points)
    along = _along_edge(points, units, slope)
    axes = torch.eye(points.shape[-1], dtype=points.dtype).expand(*points.shape, -1)
    return torch.cat([along.unsqueeze(2), -along.unsqueeze(2), axes, -axes], dim=2)


def _along_edge(points: Tensor, units: Tensor, slope: Tensor) -> Tensor:
    """Return the direction of steepest descent of cost along the edge, within the bounds that are met."""
    free = torch.ones_like(points)
    step = torch.zeros_like(points)
    for _ in range(points.shape[-1]):
        normal = slope * free
        share = (units * normal).sum(-1, keepdim=True) / (normal**2).sum(-1, keepdim=True).clamp(min=1e-300)
        step = -(units - share * normal) * free
        blocked = ((points <= 0.0) & (step < 0.0)) | ((points >= 1.0) & (step > 0.0))
        if not bool(blocked.any()):
            break
        free = torch.where(blocked, torch.zeros_like(free), free)
        step = step * free
    return step / step.abs().amax(-1, keepdim=True).clamp(min=1e-300)


def _to_edge(batch: Batch, points: Tensor, back: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Return points moved along `back` by within ±`reach` to just inside the edge, and which are feasible.

    Regula falsi on the bracket; the end that stays has its value halved (Illinois's rule), so that both close in.
    """
    shape = points.shape
    target = batch.target[:, None, None]

    def at(step: Tensor) -> tuple[Tensor, Tensor]:
        candidate = torch.clamp(points + step.unsqueeze(-1) * back, 0.0, 1.0)
        return candidate, batch.degradation(candidate.flatten(1, 2)).view(shape[:-1]) - target

    low, high = -reach, reach
    low_point, low_value = at(low)
    best, high_value = at(high)
    feasible = high_value <= 0.0
    done = low_value <= 0.0
    best = torch.where(done.unsqueeze(-1), low_point, best)
    for _ in range(_SECANT_STEPS):
        share = torch.clamp(low_value / (low_value - high_value).clamp(min=1e-300), 0.02, 0.98)
        step = low + share * (high - low)
        candidate, value = at(step)
        inside = value <= 0.0
        take = inside & feasible & ~done
        best = torch.where(take.unsqueeze(-1), candidate, best)
        low, high = torch.where(inside, low, step), torch.where(inside, step, high)
        low_value = torch.where(inside, 0.5 * low_value, value)
        high_value = torch.where(inside, value, 0.5 * high_value)
    return best, feasible | done
