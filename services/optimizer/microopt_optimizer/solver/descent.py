"""Each slice by itself at given prices: look around, walk from the best places, bring near what cannot be met."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.hops import refined
from microopt_optimizer.solver.screen import Screened
from microopt_optimizer.solver.slp import Walked, are_few, walk
from microopt_optimizer.solver.zoom import look

_SCREEN_ROWS = 2_000_000  # rows of a model in all: many slices are looked at more coarsely, not too late
_WALK_ROWS = 65_536
_LEAST_POINTS = 64
_POINTS_PER_RESOURCE = 256
_STARTS = (4, 16)
_WARM_SHARE = 4
_WARM_RADIUS = 0.03
_WARM_STEPS = 10
_TOP_UP_STEPS = 60
_HOPPING_SHARE = 0.5
_EDGE = 1e-4
_SURE_RESOURCES = 2
_DEARER = 8  # so many times the steps of one walk are those of some rounds


@dataclass(frozen=True)
class Found:
    """What was found for a batch's S slices: points [S, K] of the unit cube, and what they are worth.

    `feasible` [S]: E(β) is within the threshold. `settled` [S]: it is, and the walks came to their end and gained
    next to nothing lately. `certain`: costs may be taken for lower bounds, as time sufficed and all feasible ones
    have settled; of many slices some have not, by little. `screened` and `walked` are all that was seen, for other
    prices.
    """

    points: Tensor
    feasible: Tensor
    settled: Tensor
    certain: bool
    screened: Screened
    walked: Walked


def descend(batch: Batch, clock: Clock, current: Tensor | None = None) -> Found:
    """Solve each slice of the batch alone.

    `current` [S, K], last interval's points, spares steps, and where slices are many most of looking around.
    """
    share = 1 if current is None else _WARM_SHARE
    count = _affordable(batch, _WALK_ROWS, _STARTS, share)
    few = are_few(count * batch.field.rows)
    most_points = _POINTS_PER_RESOURCE * batch.floors.shape[1]
    points = _affordable(batch, _SCREEN_ROWS, (_LEAST_POINTS, most_points), share)
    near, screened, seen = look(batch, points, few, clock)
    starts = screened.starts(near, count)
    if current is None:
        walked = walk(near, starts, clock)
    else:
        last = batch.translated(current.unsqueeze(1), near)
        walked = walk(near, torch.cat([last, starts], dim=1), clock, _WARM_RADIUS, _WARM_STEPS)
    hopping = clock.part(_HOPPING_SHARE)  # the rest is for sharing what is scarce
    walked, ended = refined(near, walked, _unsure(near, walked, share), hopping, count)
    walked = replace(walked, points=near.translated(walked.points, batch))
    best, cost, settled = walked.best()
    feasible = torch.isfinite(cost)
    if not bool(feasible.all()):
        best, feasible = _topped_up(batch, seen, best, feasible, clock)
    settled = settled & feasible & ended
    certain = not clock.expired and bool(((settled if few else ended) | ~feasible).all())
    return Found(best, feasible, settled, certain, seen, walked)


def _unsure(batch: Batch, walked: Walked, share: int) -> Tensor:
    """Return the slices [S] that are worth walking again: with many resources all, with two a few not settled.

    If only a share of all work is to be spent, they must be fewer.
    """
    if batch.floors.shape[1] > _SURE_RESOURCES:
        return torch.ones_like(batch.threshold, dtype=torch.bool)
    unsettled = ~walked.best()[2]
    rows = float(unsettled.double().mean()) * walked.cost.shape[1] * batch.field.rows
    return unsettled & are_few(_DEARER * share * rows)


def _affordable(batch: Batch, rows: int, limits: tuple[int, int], share: int = 1) -> int:
    """Return how many points a slice may have of so many rows of the model in all, if only a share is spent."""
    least, most = limits
    return max(least // share, min(most, rows // (share * max(1, batch.field.rows))))


def _topped_up(
    batch: Batch, screened: Screened, points: Tensor, feasible: Tensor, clock: Clock
) -> tuple[Tensor, Tensor]:
    """Return points with those of slices that are not feasible replaced by the least degraded found."""
    rows = (~feasible).nonzero().flatten().tolist()
    short = batch.select(rows)
    point = Screened(screened.points[rows], screened.degradation[rows]).least_degraded(short).unsqueeze(1)
    best, least = point, short.degradation(point)
    for step in range(_TOP_UP_STEPS):
        if clock.expired:
            break
        _, slope = short.degradation_and_slope(point)
        length = 0.1 * 0.93**step / slope.abs().amax(-1, keepdim=True).clamp(min=1e-300)
        point = torch.clamp(point - length * slope, 0.0, 1.0)
        degradation = short.degradation(point)
        better = degradation < least
        best = torch.where(better.unsqueeze(-1), point, best)
        least = torch.where(better, degradation, least)
    points, feasible = points.clone(), feasible.clone()
    points[rows] = best.squeeze(1)
    feasible[rows] = least.squeeze(1) <= short.target
    return points, feasible


def degradation_prices(batch: Batch, points: Tensor) -> Tensor:
    """Return λ = −d cost / d E(β) on the edge, [S], and 0 where the constraint does not bind.

    Paper eq. (6): from stationarity of the Lagrangian over the resources that are not at their bounds, in least
    squares: ReLU networks have kinks, and at one no single λ is exact. Costs are at the batch's prices.
    """
    degradation, slope = batch.degradation_and_slope(points.unsqueeze(1))
    slope, cost = slope.squeeze(1), batch.prices * batch.span
    free = (points > 0.0) & (points < 1.0)
    normal = torch.where(free, slope, torch.zeros_like(slope))
    squares = (normal**2).sum(-1)
    price = -(cost * normal).sum(-1) / squares.clamp(min=1e-300)
    binds = (batch.threshold - degradation.squeeze(1) <= _EDGE) & (squares > 1e-24)
    return torch.where(binds, price.clamp(min=0.0), torch.zeros_like(price))
