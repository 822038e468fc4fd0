"""What a pool of few slices needs beyond prices: direct exchanges, and the last of the capacity put to use."""

from dataclasses import replace

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.choice import exchange, undominated
from microopt_optimizer.solver.edge import edge_points
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.prices import Columns
from microopt_optimizer.solver.shortage import within
from microopt_optimizer.solver.slp import walk

_RADII = (0.5, 0.1, 0.03, 0.01, 0.003)
_SLACK_RADIUS = 0.02


def exchanged(
    pool: Pool, clock: Clock, columns: Columns, places: list[int], chosen: Tensor, capacity: Tensor
) -> Tensor:
    """Return allocations [n, R] improved from `chosen` by exchanges between pairs of slices.

    First among all that is known, then also among points of each slice's edge, ever closer around the choice.
    """
    options = [usage[torch.isfinite(cost)] for usage, cost in zip(columns.usage, columns.cost, strict=True)]
    for radius in (0.0, *_RADII):
        if clock.expired:
            break
        if radius:
            _look_around(pool, places, chosen, radius, options)
        chosen = exchange([undominated(option) for option in options], chosen, capacity, pool.weights)
    return chosen


def _look_around(pool: Pool, places: list[int], chosen: Tensor, radius: float, options: list[Tensor]) -> None:
    """Add to each slice's options points of its edge within a radius of its choice."""
    everyone = pool.floors.clone()
    everyone[places] = chosen
    for batch in pool.batches:
        edge = edge_points(batch, batch.points(pool.gather(batch, everyone)), radius)
        usage = pool.spread(batch, batch.allocations(edge.points))
        feasible = edge.degradation <= batch.target.unsqueeze(1)
        for row, place in enumerate(batch.position):
            if place in places:
                slot = places.index(place)
                options[slot] = torch.cat([options[slot], usage[row][feasible[row]]])


def with_slack_used(pool: Pool, clock: Clock, places: list[int], chosen: Tensor, capacity: Tensor) -> Tensor:
    """Return allocations [n, R] with each slice in turn at its cheapest in what the others leave."""
    for batch in pool.batches:
        for row, place in enumerate(batch.position):
            if place not in places or clock.expired:
                continue
            slot = places.index(place)
            # A hair less than what is left, as the sum is rounded when all are added up.
            left = (capacity - (chosen.sum(0) - chosen[slot])) - 1e-12 * capacity
            one = batch.select([row])
            trial = chosen.clone()
            own = _cheapest_within(one, chosen[slot][one.columns[0]], left[one.columns[0]], clock)
            trial[slot] = pool.spread(one, own.view(1, 1, -1)).flatten()
            if within(trial, capacity):
                chosen = trial
    return chosen


def _cheapest_within(one: Batch, allocation: Tensor, left: Tensor, clock: Clock) -> Tensor:
    """Return a slice's allocation [K], walked at weights η within its bounds and what is left of capacities."""
    inside = replace(one, ceilings=torch.maximum(torch.minimum(one.ceilings, left), allocation))
    start = inside.points(allocation.unsqueeze(0)).unsqueeze(1)
    if float(inside.degradation(start)) > float(inside.target):
        return allocation
    points, _, _ = walk(inside, start, clock, _SLACK_RADIUS).best()
    return inside.allocations(points.unsqueeze(1)).flatten()
