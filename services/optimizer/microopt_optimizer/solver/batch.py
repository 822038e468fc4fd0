"""Slices that are solved together, as tensors over the unit cube of each one's bounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from microopt_optimizer.solver.field import Field

_ROUNDING = 2e-6  # of E(β) in single precision
MARGIN = 1e-9
"""Solvers aim this far below the threshold, so that rounding in another batch shape cannot push E(β) over it."""


@dataclass(frozen=True)
class Cube:
    """S slices with K resources each, in float64; a point of the unit cube is an allocation within the bounds.

    `position` are the slices' places in the problem and `columns` [S, K] the places of their models' inputs among
    the pool's resources. `floors`, `ceilings` and `prices` (cost per unit: η, plus μ where capacities bind) have
    shape [S, K], `threshold` (β_thresh) [S].
    """

    position: tuple[int, ...]
    columns: Tensor
    floors: Tensor
    ceilings: Tensor
    prices: Tensor
    threshold: Tensor

    @property
    def span(self) -> Tensor:
        """Return the widths of the bounds, [S, K]."""
        return self.ceilings - self.floors

    @property
    def target(self) -> Tensor:
        """Return the E(β) that solvers aim for, [S]."""
        return self.threshold - torch.clamp(self.threshold * 1e-3, max=MARGIN)

    def units(self) -> Tensor:
        """Return the cost of each resource's whole span as a share of all spans' cost, [S, K]."""
        cost = self.prices * self.span
        total = cost.sum(-1, keepdim=True)
        return torch.where(total > 0.0, cost / total, torch.zeros_like(cost))

    def share(self, cost: Tensor) -> Tensor:
        """Return costs of allocations [S] as shares of all spans' cost, 0 at the floors and 1 at the ceilings."""
        return (cost - (self.prices * self.floors).sum(-1)) / (self.prices * self.span).sum(-1).clamp(min=1e-300)

    def allocations(self, points: Tensor) -> Tensor:
        """Return the allocations at points of the unit cube, [S, N, K]."""
        low, high = self.floors.unsqueeze(1), self.ceilings.unsqueeze(1)
        return torch.clamp(low + points * (high - low), low, high)

    def inside(self, allocations: Tensor) -> Tensor:
        """Return where in the unit cube allocations [S, N, K] are; 0 along a resource whose bounds are equal."""
        span = self.span.unsqueeze(1)
        points = torch.where(span > 0.0, (allocations - self.floors.unsqueeze(1)) / span.clamp(min=1e-300), 0.0)
        return points.clamp(0.0, 1.0)

    def points(self, allocations: Tensor) -> Tensor:
        """Return where in the unit cube one allocation a slice is, [S, K]; see `inside`."""
        return self.inside(allocations.unsqueeze(1)).squeeze(1)

    def translated(self, points: Tensor, other: "Cube") -> Tensor:
        """Return where points [S, N, K] of this cube are in another one of the same slices with other bounds."""
        return points if other is self else other.inside(self.allocations(points))

    def chosen(self, rows: Sequence[int]) -> Self:
        """Return the cube of some of its slices."""
        some = list(rows)
        position = tuple(self.position[row] for row in some)
        return replace(self, position=position, **{name: getattr(self, name)[some] for name in _PER_SLICE})


_PER_SLICE = ("columns", "floors", "ceilings", "prices", "threshold")


@dataclass(frozen=True)
class Batch(Cube):
    """Slices whose models can be evaluated together: `field` is their E(β)."""

    field: Field

    def degradation(self, points: Tensor) -> Tensor:
        """Return E(β) at points [S, N, K] of the unit cube, as [S, N]."""
        return self.field.value(self.allocations(points))

    def degradation_and_slope(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return E(β) at points [S, N, K], as [S, N], and its gradient by the points' coordinates."""
        value, slope = self.field.value_and_slope(self.allocations(points))
        return value, slope * self.span.unsqueeze(1)

    def at(self, allocations: Tensor) -> Tensor:
        """Return E(β) [S] at one allocation a slice, [S, K] in the resources' own units."""
        return self.field.value(allocations.unsqueeze(1)).squeeze(1)

    def rough(self) -> "Batch":
        """Return the batch in single precision, with a target that is lower by what this may be off."""
        return replace(self, field=self.field.single(), threshold=(self.threshold - _ROUNDING).clamp(min=0.0))

    def select(self, rows: Sequence[int]) -> "Batch":
        """Return the batch of some of its slices."""
        return replace(self.chosen(rows), field=self.field.select(rows))

    def with_capacity_prices(self, capacity_prices: Tensor) -> "Batch":
        """Return the batch with each resource dearer by its capacity price μ, [R] in the pool's order."""
        return replace(self, prices=self.prices + capacity_prices[self.columns])
