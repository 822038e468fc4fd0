"""The stages in their order, for the slices of one batch at given prices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.polish import polish
from microopt_optimizer.solver.refine import refine, value_and_slope
from microopt_optimizer.solver.screen import Screened, screen

STARTS = 16
_POLISHED = 4
_DISTINCT = 0.02
_TOP_UP_STEPS = 60
_EDGE = 1e-4
_REFINE_SHARE = 0.5  # so that there is time to polish, which gains more


@dataclass(frozen=True)
class Found:
    """What was found for a batch's S slices: points [S, K] of the unit cube, E(β) [S], and what they are worth.

    `feasible` [S]: E(β) is within the threshold. `settled` [S]: every stage ran to its end and the last poll found
    nothing cheaper nearby. `known` are all points visited, for solving again at other prices.
    """

    points: Tensor
    degradation: Tensor
    feasible: Tensor
    settled: Tensor
    known: Screened


def descend(batch: Batch, clock: Clock, known: Screened | None = None) -> Found:
    """Solve each slice of the batch alone: screen, refine, polish; what cannot be met is brought near.

    `known` replaces screening, with points of the same unit cube.
    """
    known = screen(batch) if known is None else known
    refined, complete = refine(batch, known.best(batch, STARTS), clock.part(_REFINE_SHARE))
    known = known.with_points(refined.points, refined.degradation)
    point, feasible = known.cheapest_feasible(batch)
    if not bool(feasible.all()):
        known = _topped_up(batch, known, clock)
        point, feasible = known.cheapest_feasible(batch)
    settled = torch.zeros_like(feasible)
    rows = feasible.nonzero().flatten().tolist()
    if rows:
        part = batch.select(rows)
        ours = Screened(known.points[rows], known.degradation[rows])
        # Starts with nothing feasible left to pick from repeat the first: harmless, and the shapes stay.
        starts = _feasible_starts(part, ours)
        polished, quiet = polish(part, starts, clock).best()
        point[rows], settled[rows] = polished, quiet & complete
    point = torch.where(feasible.unsqueeze(-1), point, known.least_degraded(batch))
    degradation = batch.degradation(point.unsqueeze(1))
    known = known.with_points(point.unsqueeze(1), degradation)
    return Found(point, degradation.squeeze(1), feasible, settled, known)


def _feasible_starts(batch: Batch, known: Screened) -> Tensor:
    """Return the cheapest feasible points that are apart from each other, [S, P, K]."""
    starts = known.best(batch, 2 * _POLISHED, _DISTINCT)[:, :_POLISHED]
    usable = batch.degradation(starts) <= batch.target.unsqueeze(1)
    return torch.where(usable.unsqueeze(-1), starts, starts[:, :1])


def _topped_up(batch: Batch, known: Screened, clock: Clock) -> Screened:
    """Return the known points and those of a descent of E(β) alone from the least degraded."""
    point = known.least_degraded(batch).unsqueeze(1)
    for step in range(_TOP_UP_STEPS):
        if clock.expired:
            break
        _, slope = value_and_slope(batch, point)
        length = 0.1 * 0.93**step / slope.abs().amax(-1, keepdim=True).clamp(min=1e-300)
        point = torch.clamp(point - length * slope, 0.0, 1.0)
        known = known.with_points(point, batch.degradation(point))
    return known


def degradation_prices(batch: Batch, points: Tensor) -> Tensor:
    """Return λ = −d cost / d E(β) on the edge, [S], and 0 where the constraint does not bind.

    Paper eq. (6): from stationarity of the Lagrangian over the resources that are not at their bounds, in least
    squares: ReLU networks have kinks, and at one no single λ is exact. Costs are at the batch's prices.
    """
    degradation, slope = value_and_slope(batch, points.unsqueeze(1))
    slope, cost = slope.squeeze(1), batch.prices * batch.span
    free = (points > 0.0) & (points < 1.0)
    normal = torch.where(free, slope, torch.zeros_like(slope))
    squares = (normal**2).sum(-1)
    price = -(cost * normal).sum(-1) / squares.clamp(min=1e-300)
    binds = (batch.threshold - degradation.squeeze(1) <= _EDGE) & (squares > 1e-24)
    return torch.where(binds, price.clamp(min=0.0), torch.zeros_like(price))
