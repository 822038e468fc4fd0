"""Capacity prices: the dual of paper eq. (7) over allocations that are known to be feasible."""

from dataclasses import dataclass

import torch
from torch import Tensor

PRICE_LIMIT = 1e3
"""Times the resource's weight η; a price there says that no price clears the capacity."""

_SWEEPS = 4
_HALVINGS = 40
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Columns:
    """Feasible allocations of S slices: usage [S, N, R] and cost [S, N] at weights η, infinite where padded."""

    usage: Tensor
    cost: Tensor


@dataclass(frozen=True)
class Priced:
    """Prices [R]; the cheapest choice seen [S] that is within capacity, or else the last; the dual's value.

    The dual's value is a lower bound on the cost of any choice among the columns.
    """

    prices: Tensor
    choice: Tensor
    bound: float


class _Search:
    """Answers for prices, and the cheapest joint choice within capacity among all the answers."""

    def __init__(self, columns: Columns, capacity: Tensor) -> None:
        self.columns = columns
        self.capacity = capacity
        self.choice: Tensor | None = None
        self.last = torch.zeros(columns.cost.shape[0], dtype=torch.long)
        self.cost = torch.inf
        self.bound = -torch.inf

    def usage(self, prices: Tensor) -> Tensor:
        """Return what the slices use in all [R] when each answers these prices alone."""
        priced = self.columns.cost + self.columns.usage @ prices
        least, choice = priced.min(dim=1)
        self.last = choice
        rows = torch.arange(choice.shape[0])
        usage = self.columns.usage[rows, choice].sum(0)
        self.bound = max(self.bound, float(least.sum() - prices @ self.capacity))
        cost = float(self.columns.cost[rows, choice].sum())
        if bool((usage <= self.capacity).all()) and cost < self.cost:
            self.choice, self.cost = choice, cost
        return usage


def price(columns: Columns, capacity: Tensor, weights: Tensor) -> Priced:
    """Return prices that bring the slices' own choices within `capacity` [R], by bisection of one at a time.

    The dual is concave and each price's own slope, usage − capacity, falls with it: a bisection finds its maximum
    along that price; a few sweeps over the resources settle them jointly. `weights` [R] are η, the prices' scale.
    """
    search = _Search(columns, capacity)
    prices = torch.zeros_like(capacity)
    for _ in range(_SWEEPS):
        before = prices.clone()
        for resource in range(capacity.shape[0]):
            prices[resource] = _cleared(search, prices, resource, PRICE_LIMIT * float(weights[resource]))
        if torch.equal(before, prices):
            break
    search.usage(prices)
    return Priced(prices, search.last if search.choice is None else search.choice, search.bound)


def _cleared(search: _Search, prices: Tensor, resource: int, limit: float) -> float:
    """Return the least price of one resource at which its usage is within its capacity, the others' held."""

    def over(price: float) -> bool:
        trial = prices.clone()
        trial[resource] = price
        return bool(search.usage(trial)[resource] > search.capacity[resource])

    if not over(0.0):
        return 0.0
    if over(limit):
        return limit
    low, high = 0.0, limit
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if over(middle) else (low, middle)
    return high if high > _NEGLIGIBLE * limit else 0.0
