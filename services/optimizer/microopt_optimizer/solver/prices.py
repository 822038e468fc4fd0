"""Capacity prices: the dual of paper eq. (7) over allocations that are known to be feasible."""

from dataclasses import dataclass

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock

PRICE_LIMIT = 1e3
"""Times the prices' scale; a price there says that no price clears the capacity."""

_SWEEPS = 4
_GROWTH = 4.0
_PRECISION = 1e-7
_MOST_EXCHANGES = 10_000


@dataclass(frozen=True)
class Columns:
    """Feasible allocations of S slices: usage [S, N, R] and cost [S, N] at weights η, infinite where padded."""

    usage: Tensor
    cost: Tensor

    def select(self, places: list[int]) -> "Columns":
        """Return the columns of some of the slices."""
        return Columns(self.usage[places], self.cost[places])

    def least(self, prices: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """Return the `count` least costs at weights and prices [S, count], and which columns these are."""
        priced = self.cost + self.usage @ prices
        least, index = priced.topk(min(count, priced.shape[1]), dim=1, largest=False)
        return least, index

    def bound(self, prices: Tensor, capacity: Tensor) -> float:
        """Return the dual's value at prices [R]: no choice among the columns within `capacity` costs less."""
        least, _ = self.least(prices)
        return float(least.sum() - prices @ capacity)

    def chosen(self, choice: Tensor) -> Tensor:
        """Return the usage [S, R] of a choice [S]."""
        return self.usage[torch.arange(choice.shape[0]), choice]


@dataclass(frozen=True)
class Priced:
    """Prices [R], and the cheapest choice [S] seen that is within capacity (None: none was)."""

    prices: Tensor
    choice: Tensor | None


class _Search:
    """Answers for prices, and the cheapest joint choice within capacity among all the answers."""

    def __init__(self, columns: Columns, capacity: Tensor) -> None:
        self.columns = columns
        self.capacity = capacity
        self.choice: Tensor | None = None
        self._cost = torch.inf
        self._rows = torch.arange(columns.cost.shape[0])

    def excess(self, prices: Tensor) -> Tensor:
        """Return by how much the slices exceed each capacity [R] when each answers these prices alone."""
        choice = (self.columns.cost + self.columns.usage @ prices).argmin(dim=1)
        excess = self.columns.usage[self._rows, choice].sum(0) - self.capacity
        if bool((excess <= 0.0).all()):
            cost = float(self.columns.cost[self._rows, choice].sum())
            if cost < self._cost:
                self.choice, self._cost = choice, cost
        return excess


def price(columns: Columns, capacity: Tensor, scale: Tensor, start: Tensor, clock: Clock) -> Priced:
    """Return prices that bring the slices' own choices within `capacity` [R], by bisection of one at a time.

    The dual is concave and each price's own slope, usage − capacity, falls with it: a bisection finds its maximum
    along that price; a few sweeps over the resources settle them jointly, one if time is short. `scale` [R] is
    that of the prices, and `start` [R] are prices to look near first.
    """
    search = _Search(columns, capacity)
    prices = torch.where(search.excess(torch.zeros_like(capacity)) > 0.0, start, 0.0)
    for _ in range(_SWEEPS):
        before = prices.clone()
        for resource in range(capacity.shape[0]):
            prices[resource] = _cleared(search, prices, resource, float(scale[resource]))
        if clock.expired or bool(((prices - before).abs() <= 1e-5 * scale).all()):
            break
    search.excess(prices)
    return Priced(prices, None if search.choice is None else filled(columns, search.choice, capacity, clock))


def _cleared(search: _Search, prices: Tensor, resource: int, scale: float) -> float:
    """Return the least price of one resource at which its usage is within its capacity, the others' held."""

    def over(price: float) -> bool:
        trial = prices.clone()
        trial[resource] = price
        return bool(search.excess(trial)[resource] > 0.0)

    if not over(0.0):
        return 0.0
    low, high = 0.0, float(prices[resource]) or scale
    while over(high):
        if high >= PRICE_LIMIT * scale:
            return PRICE_LIMIT * scale
        low, high = high, min(_GROWTH * high, PRICE_LIMIT * scale)
    while high - low > _PRECISION * scale + _PRECISION * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if over(middle) else (low, middle)
    return high


def filled(columns: Columns, choice: Tensor, capacity: Tensor, clock: Clock) -> Tensor:
    """Return a choice [S] improved by what capacity it leaves: the greatest saving that fits, again and again."""
    choice = choice.clone()
    used = columns.chosen(choice)
    rows = torch.arange(choice.shape[0])
    # A hair less than what is left, as sums are rounded.
    left = capacity * (1.0 - 1e-12) - used.sum(0)
    for _ in range(_MOST_EXCHANGES):
        saving = columns.cost[rows, choice].unsqueeze(1) - columns.cost
        fits = (columns.usage - used.unsqueeze(1) <= left).all(-1)
        saving = torch.where(fits, saving, -torch.inf)
        best = int(saving.argmax())
        row, column = divmod(best, saving.shape[1])
        if float(saving[row, column]) <= 1e-12 or clock.expired:
            break
        left = left - (columns.usage[row, column] - used[row])
        used[row], choice[row] = columns.usage[row, column], column
    return choice
