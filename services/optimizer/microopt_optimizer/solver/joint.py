"""Slices that compete for capacities: column generation between prices and the slices' own answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.choice import exchange, undominated
from microopt_optimizer.solver.descent import Found, descend
from microopt_optimizer.solver.edge import edge_points
from microopt_optimizer.solver.polish import polish
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.prices import Columns, Priced, price
from microopt_optimizer.solver.shortage import within

_ROUNDS = 4
_PRICE_CHANGE = 1e-3
_GAP = 1e-3
_RADII = (0.1, 0.03, 0.01, 0.003)


@dataclass(frozen=True)
class Joint:
    """Allocations [n, R] of n slices within capacity (None: none found), the prices [R], and how good they are.

    `closed`: the cost is within 0.1 % of the dual's value over all allocations known, and each answer was settled.
    """

    allocations: Tensor | None
    prices: Tensor
    closed: bool


class Coordinator:
    """Keeps all feasible points known of each slice, so that solving again for fewer slices costs little."""

    def __init__(self, pool: Pool, found: Sequence[Found], own: Tensor, clock: Clock) -> None:
        self._pool = pool
        self._known = [one.known for one in found]
        self._own = own
        self._clock = clock
        self._settled = True

    def solve(self, places: list[int], capacity: Tensor) -> Joint:
        """Return the cheapest joint allocation found of the slices at `places` within `capacity` [R].

        A round prices what is known, then lets every slice answer these prices (weights η + μ), which adds to what
        is known near the answers. As answers may jump between two prices, exchanges between pairs of slices
        follow, among all that is known and then ever closer around the choice, and at last each slice is polished
        in what the others leave of the capacities.
        """
        self._settled = True
        self._look_around(self._centres(), 0.5)
        priced = self._price(places, capacity)
        for _ in range(_ROUNDS):
            if self._expired():
                break
            self._answer(places, priced.prices)
            before, priced = priced, self._price(places, capacity)
            change = (priced.prices - before.prices).abs() / self._pool.weights
            if bool((change <= _PRICE_CHANGE).all()):
                break
        chosen = self._exchanged(places, priced, capacity)
        if not within(chosen, capacity):
            return Joint(None, priced.prices, False)
        chosen = self._use_slack(places, chosen, capacity)
        cost = float((chosen @ self._pool.weights).sum())
        return Joint(chosen, priced.prices, self._settled and cost - priced.bound <= _GAP * abs(cost))

    def _expired(self) -> bool:
        expired = self._clock.expired
        self._settled &= not expired
        return expired

    def _centres(self) -> list[Tensor]:
        return [torch.full_like(batch.floors, 0.5) for batch in self._pool.batches]

    def _look_around(self, centres: list[Tensor], radius: float) -> None:
        for index, batch in enumerate(self._pool.batches):
            if not self._clock.expired:
                edge = edge_points(batch, centres[index], radius)
                self._known[index] = self._known[index].with_points(edge.points, edge.degradation)

    def _exchanged(self, places: list[int], priced: Priced, capacity: Tensor) -> Tensor:
        columns = self._columns(places)
        chosen = columns.usage[torch.arange(len(places)), priced.choice]
        for radius in (0.0, *_RADII):
            if self._expired():
                break
            if radius:
                everyone = self._own.clone()
                everyone[places] = chosen
                centres = [
                    batch.points(everyone[list(batch.position)][:, self._pool.columns_of(batch)])
                    for batch in self._pool.batches
                ]
                self._look_around(centres, radius)
                columns = self._columns(places)
            known = zip(columns.usage, columns.cost, strict=True)
            options = [undominated(usage[torch.isfinite(cost)]) for usage, cost in known]
            chosen = exchange(options, chosen, capacity, self._pool.weights)
        return chosen

    def _price(self, places: list[int], capacity: Tensor) -> Priced:
        return price(self._columns(places), capacity, self._pool.weights)

    def _answer(self, places: list[int], prices: Tensor) -> None:
        for index, batch in enumerate(self._pool.batches):
            rows = [row for row, place in enumerate(batch.position) if place in places]
            if not rows:
                continue
            dearer = batch.with_prices(prices[self._pool.columns_of(batch)])
            found = descend(dearer, self._clock, self._known[index])
            self._known[index] = found.known
            self._settled &= bool(found.settled[rows].all())

    def _columns(self, places: list[int]) -> Columns:
        """Return the feasible allocations known of the slices; of those without traffic, the floors."""
        usages = {place: self._own[place].unsqueeze(0) for place in places}
        for batch, known in zip(self._pool.batches, self._known, strict=True):
            usage = self._pool.spread(batch, batch.allocations(known.points))
            feasible = known.degradation <= batch.target.unsqueeze(1)
            for row, place in enumerate(batch.position):
                if place in usages:
                    usages[place] = torch.cat([usages[place], usage[row][feasible[row]]])
        longest = max(usage.shape[0] for usage in usages.values())
        resources = len(self._pool.names)
        padded = torch.zeros(len(places), longest, resources, dtype=torch.float64)
        cost = torch.full((len(places), longest), torch.inf, dtype=torch.float64)
        for row, place in enumerate(places):
            usage = usages[place]
            padded[row, : usage.shape[0]] = usage
            cost[row, : usage.shape[0]] = usage @ self._pool.weights
        return Columns(padded, cost)

    def _use_slack(self, places: list[int], chosen: Tensor, capacity: Tensor) -> Tensor:
        for batch in self._pool.batches:
            columns = self._pool.columns_of(batch)
            for row, place in enumerate(batch.position):
                if place not in places or self._clock.expired:
                    continue
                slot = places.index(place)
                others = chosen.sum(0) - chosen[slot]
                # A hair less than what is left, as the sum is rounded when all are added up.
                left = (capacity - others)[columns] - 1e-12 * capacity[columns]
                moved = _polished(batch.select([row]), chosen[slot][columns], left, self._clock)
                trial = chosen.clone()
                trial[slot] = self._pool.spread(batch, moved)
                if within(trial, capacity):
                    chosen = trial
        return chosen


def _polished(batch: Batch, allocation: Tensor, left: Tensor, clock: Clock) -> Tensor:
    """Return a slice's allocation [K], polished at weights η within its bounds and what is left of capacities."""
    ceilings = torch.maximum(torch.minimum(batch.ceilings, left), allocation)
    inside = replace(batch, ceilings=ceilings)
    start = inside.points(allocation.unsqueeze(0)).unsqueeze(1)
    if float(inside.degradation(start)) > float(inside.target):
        return allocation
    point, _ = polish(inside, start, clock).best()
    return inside.allocations(point.unsqueeze(1)).flatten()
