"""Slices that compete for capacities: column generation between prices and the slices' own answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.descent import Found
from microopt_optimizer.solver.edge import traded
from microopt_optimizer.solver.few import exchanged, with_slack_used
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.prices import Columns, Priced, price
from microopt_optimizer.solver.shortage import within
from microopt_optimizer.solver.slp import walk
from microopt_optimizer.solver.zoom import narrowed

_ROUNDS = 10
_RADII = (0.2, 0.1, 0.05, 0.02)
_ANSWERS = (2, 1)
_ANSWER_STEPS = 10
_CLOSE = 1e-5
_CLOSED = 1e-3
_FEW = 16
_CROWDED = (0.0, 0.5, 2.0, 8.0, 64.0)


@dataclass(frozen=True)
class Joint:
    """Allocations [n, R] of n slices within capacity (None: none found), the prices [R], and how good they are.

    `bound` is the dual's value: no joint allocation costs less, as far as each slice's answer to the prices is its
    cheapest. `closed`: the cost is within 0.1 % of it.
    """

    allocations: Tensor | None
    prices: Tensor
    bound: float
    closed: bool


class Coordinator:
    """Keeps feasible allocations known of each slice, so that solving again for fewer slices costs little."""

    def __init__(self, pool: Pool, found: Sequence[Found], own: Tensor, clock: Clock) -> None:
        self._pool = pool
        self._own = own
        self._clock = clock
        # At such a price, a capacity is worth as much as all that the slices use.
        worth = (own @ pool.weights).sum() / pool.capacity.clamp(min=1e-300)
        self._scale = torch.where(pool.capacity > 0.0, torch.maximum(pool.weights, worth), pool.weights)
        self._columns = Columns(own.unsqueeze(1), (own @ pool.weights).unsqueeze(1))
        for batch, one in zip(pool.batches, found, strict=True):
            rows = list(range(len(batch.position)))
            self._add(batch, rows, one.walked.points, one.walked.cost < torch.inf)
            self._add(batch, rows, *_various(batch, one))
            for resource in self._scarce(batch):
                self._add(batch, rows, *_traded(batch, one.points, resource))

    def solve(self, places: list[int], capacity: Tensor, start: Tensor) -> Joint:
        """Return the cheapest joint allocation found of the slices at `places` within `capacity` [R].

        A round prices what is known, then lets every slice answer these prices (weights η + μ), which adds to what
        is known. The gap between the cheapest choice within capacity and the dual falls with the number of slices;
        a few slices, whose answers jump between two prices, also exchange directly.
        """
        priced, bound, settled = self._rounds(places, capacity, start)
        columns = self._columns.select(places)
        choice = columns.least(priced.prices)[1][:, 0] if priced.choice is None else priced.choice
        chosen = columns.chosen(choice)
        if len(places) <= _FEW:
            near = self._near(places, chosen, capacity)
            chosen = exchanged(near, self._clock, columns, places, chosen, capacity)
        if not within(chosen, capacity):
            return Joint(None, priced.prices, bound, False)
        if len(places) <= _FEW:
            near = self._near(places, chosen, capacity)
            chosen = with_slack_used(near, self._clock, places, chosen, capacity)
        cost = self._cost(chosen)
        return Joint(chosen, priced.prices, min(bound, cost), settled and cost - bound <= _CLOSED * cost)

    def _rounds(self, places: list[int], capacity: Tensor, start: Tensor) -> tuple[Priced, float, bool]:
        """Return the last prices with the cheapest choice, the dual's value, and whether time sufficed."""
        tried = [torch.zeros_like(capacity)]  # their own bests answer these
        columns = self._columns.select(places)
        priced = price(columns, capacity, self._scale, start, self._clock)
        for index in range(_ROUNDS):
            if self._clock.expired:
                break
            self._answer(places, priced.prices, index)
            tried.append(priced.prices)
            columns = self._columns.select(places)
            priced = price(columns, capacity, self._scale, priced.prices, self._clock)
            bound = _best_bound(columns, tried, capacity)
            if priced.choice is not None and self._cost(columns.chosen(priced.choice)) - bound <= _CLOSE * bound:
                break
        return priced, _best_bound(columns, tried, capacity), not self._clock.expired

    def _cost(self, allocations: Tensor) -> float:
        return float((allocations @ self._pool.weights).sum())

    def _near(self, places: list[int], chosen: Tensor, capacity: Tensor) -> Pool:
        """Return the pool within bounds worth looking at, as its slices need not cost more than a choice does."""
        if not within(chosen, capacity):
            return self._pool
        own = self._own @ self._pool.weights
        limit = own + (chosen @ self._pool.weights - own[places]).clamp(min=0.0).sum()
        return self._pool.with_batches(
            [narrowed(batch, batch.share(limit[list(batch.position)]))[0] for batch in self._pool.batches]
        )

    def _answer(self, places: list[int], prices: Tensor, round_: int) -> None:
        """Let slices answer prices, each from the cheapest allocations known of it; later rounds look less far."""
        least, index = self._columns.least(prices, _ANSWERS[min(round_, len(_ANSWERS) - 1)])
        feasible = torch.isfinite(least)
        radius = _RADII[min(round_, len(_RADII) - 1)]
        known = self._columns.usage.gather(1, index.unsqueeze(-1).expand(-1, -1, self._columns.usage.shape[-1]))
        for batch, rows in self._parts(places):
            part = batch if len(rows) == len(batch.position) else batch.select(rows)
            mine = known[list(part.position)]
            starts = mine.gather(2, part.columns.unsqueeze(1).expand(-1, mine.shape[1], -1))
            dearer = part.with_capacity_prices(prices)
            cost = (dearer.inside(starts) * dearer.units().unsqueeze(1)).sum(-1)
            near, _ = narrowed(dearer, torch.where(feasible[list(part.position)], cost, torch.inf).amin(1))
            walked = walk(near, near.inside(starts), self._clock, radius, _ANSWER_STEPS)
            self._add(batch, rows, near.translated(walked.points, dearer), walked.cost < torch.inf)

    def _scarce(self, batch: Batch) -> list[int]:
        """Return which of a batch's resources all slices together ask more of than there is."""
        scarce = (self._own.sum(0) > self._pool.capacity)[batch.columns]
        return scarce.any(0).nonzero().flatten().tolist()

    def _parts(self, places: list[int]) -> Iterator[tuple[Batch, list[int]]]:
        """Yield the batches with the rows of those of their slices that are asked for, while there is time."""
        wanted = set(places)
        for batch in self._pool.batches:
            rows = [row for row, place in enumerate(batch.position) if place in wanted]
            if rows and not self._clock.expired:
                yield batch, rows

    def _add(self, batch: Batch, rows: list[int], points: Tensor, feasible: Tensor) -> None:
        """Add the feasible ones of points [n, N, K] of a batch's `rows` to the columns."""
        part = batch if len(rows) == len(batch.position) else batch.select(rows)
        usage = self._pool.spread(part, part.allocations(points))
        slices, _, resources = self._columns.usage.shape
        every = torch.zeros(slices, points.shape[1], resources, dtype=torch.float64)
        cost = torch.full((slices, points.shape[1]), torch.inf, dtype=torch.float64)
        every[list(part.position)] = usage
        cost[list(part.position)] = torch.where(feasible, usage @ self._pool.weights, torch.inf)
        self._columns = Columns(
            torch.cat([self._columns.usage, every], dim=1), torch.cat([self._columns.cost, cost], dim=1)
        )


def _best_bound(columns: Columns, tried: list[Tensor], capacity: Tensor) -> float:
    """Return the greatest of the dual's values at the prices that slices have answered."""
    return max(columns.bound(prices, capacity) for prices in tried)


def _traded(batch: Batch, points: Tensor, resource: int) -> tuple[Tensor, Tensor]:
    """Return points with less of a resource and more of the others [S, N, K], and which are feasible [S, N]."""
    edge = traded(batch, points, resource)
    return edge.points, edge.degradation <= batch.target.unsqueeze(1)


def _various(batch: Batch, found: Found) -> tuple[Tensor, Tensor]:
    """Return points seen that are cheapest when some resource is scarce [S, N, K], and which are feasible.

    Those at the very edge are judged anew, as the first look was in single precision.
    """
    points, units = found.screened.points, batch.units()
    inside = found.screened.degradation <= batch.target.unsqueeze(1) - 1e-6
    picked = []
    for resource in range(points.shape[-1]):
        for scarcity in _CROWDED:
            dearer = units.clone()
            dearer[:, resource] *= 1.0 + scarcity
            cost = torch.where(inside, (points * dearer.unsqueeze(1)).sum(-1), torch.inf)
            picked.append(cost.argmin(dim=1))
    index = torch.stack(picked, dim=1)
    chosen = points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
    return chosen, inside.gather(1, index)
