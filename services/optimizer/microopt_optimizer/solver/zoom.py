"""Bounds far beyond what is needed are narrowed first: a walk's steps are then of the size of the answer."""

from dataclasses import replace

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.screen import Screened, screen

_WORTHWHILE = 0.1
_WORTHWHILE_FOR_FEW = 0.5  # many slices have fewer starts, which must be farther apart to lead to different optima
_SURELY = 1e-5  # below the target: the look is in single precision
_HAIR = 1.0 + 1e-9
_MOST_LOOKS = 16


def look(batch: Batch, count: int, few: bool, clock: Clock) -> tuple[Batch, Screened, Screened]:
    """Return the batch within bounds worth looking at, `count` points seen there, and all that was seen.

    `few` slices are narrowed for less. All that was seen is in coordinates of the batch as given.
    """
    worth = _WORTHWHILE_FOR_FEW if few else _WORTHWHILE
    first = screen(batch, count)
    near, last, seen = batch, first, [first]
    for _ in range(_MOST_LOOKS):
        if clock.expired:
            break
        near, rows = narrowed(near, _least_cost(near, last), worth)
        if not rows:
            break
        degradation = last.degradation.clone()
        degradation[rows] = screen(near.select(rows), count).degradation
        last = Screened(first.points, degradation)
        seen.append(Screened(near.translated(first.points, batch), degradation))
    points = torch.cat([one.points for one in seen], dim=1)
    return near, last, Screened(points, torch.cat([one.degradation for one in seen], dim=1))


def narrowed(batch: Batch, cost: Tensor, worth: float = _WORTHWHILE_FOR_FEW) -> tuple[Batch, list[int]]:
    """Return the batch with lower ceilings, as no slice needs to cost more than `cost` [S], and which are lower.

    Costs are shares of all spans' cost, at the batch's prices: nothing cheaper lies above what could be bought of
    a resource alone. Ceilings are lowered where that is less than `worth` of a span.
    """
    share = (_HAIR * cost.unsqueeze(1) / batch.units().clamp(min=1e-300)).clamp(max=1.0)
    worthwhile = (share < worth).any(1) & (cost > 0.0)
    if not bool(worthwhile.any()):
        return batch, []
    lowered = torch.where(worthwhile.unsqueeze(1), batch.floors + share * batch.span, batch.ceilings)
    return replace(batch, ceilings=lowered), worthwhile.nonzero().flatten().tolist()


def _least_cost(batch: Batch, screened: Screened) -> Tensor:
    """Return the cost [S] of the cheapest point seen that holds the SLA, infinite if none does."""
    feasible = screened.degradation <= batch.target.unsqueeze(1) - _SURELY
    cost = (screened.points * batch.units().unsqueeze(1)).sum(-1)
    return torch.where(feasible, cost, torch.inf).amin(1)
