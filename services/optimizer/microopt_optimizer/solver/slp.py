"""Sequential linear programming: many starts at once walk to where no cheaper feasible point is near.

Around a point, E(β) is replaced by its tangent. What then is cheapest within a radius is a fractional knapsack:
resources are bought in the order of their cost per degradation avoided, until the constraint holds.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch

FIRST_RADIUS = 0.1
STEPS = 24
_LAST_RADIUS = 1e-5
_LARGEST_RADIUS = 0.5
_SHRINK = (0.1, 0.8)
_SETTLED_RADIUS = 1e-3
_SETTLED_SLACK = 1e-5
_RESTORING_STEPS = 4
_ROUGH_ROWS = 4096
_RESTORING_RADIUS = 0.02
_PENALTIES = (0.3, 1e3)
_PROBABILITIES = (1e-30, 1.0 - 1e-15)
_INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class Walked:
    """Where each of P starts ended: a strictly feasible point [S, P, K], and its cost [S, P], infinite if none.

    Costs are shares of all spans' cost. `settled` [S, P] says that the steps had become small, and that restoring
    feasibility then cost next to nothing.
    """

    points: Tensor
    cost: Tensor
    settled: Tensor

    def with_more(self, other: "Walked") -> "Walked":
        """Return these walks and others of the same slices."""
        pairs = ((self.points, other.points), (self.cost, other.cost), (self.settled, other.settled))
        return Walked(*(torch.cat(pair, dim=1) for pair in pairs))

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return each slice's cheapest point [S, K], its cost [S] and whether it is settled [S]."""
        cost, index = self.cost.min(dim=1)
        rows = torch.arange(index.shape[0])
        return self.points[rows, index], cost, self.settled[rows, index]


@dataclass
class _State:
    """Points [S, P, K] with their cost, whether they are feasible, their excess over the target, and its slope.

    The excess is that of Φ⁻¹(E(β)): for a normal QoS and one number of users this is (q_thresh − μ)/σ, which is
    nearly linear where E(β) itself is flat at both ends.
    """

    points: Tensor
    cost: Tensor
    feasible: Tensor
    excess: Tensor
    slope: Tensor

    @staticmethod
    def at(batch: Batch, points: Tensor, units: Tensor) -> "_State":
        degradation, slope = batch.degradation_and_slope(points)
        target = batch.target.unsqueeze(1)
        quantile = torch.special.ndtri(degradation.clamp(*_PROBABILITIES))
        density = torch.exp(-0.5 * quantile**2) * _INVERSE_SQRT_2PI
        return _State(
            points=points,
            cost=(points * units).sum(-1),
            feasible=degradation <= target,
            excess=quantile - torch.special.ndtri(target.clamp(*_PROBABILITIES)),
            slope=slope / density.unsqueeze(-1),
        )

    def penalised(self, penalty: Tensor) -> Tensor:
        return self.cost + penalty * self.excess.clamp(min=0.0)

    def replaced(self, where: Tensor, other: "_State") -> "_State":
        wide = where.unsqueeze(-1)
        return _State(
            torch.where(wide, other.points, self.points),
            torch.where(where, other.cost, self.cost),
            torch.where(where, other.feasible, self.feasible),
            torch.where(where, other.excess, self.excess),
            torch.where(wide, other.slope, self.slope),
        )


def walk(batch: Batch, starts: Tensor, clock: Clock, radius: float = FIRST_RADIUS, steps: int = STEPS) -> Walked:
    """Walk from `starts` [S, P, K] to nearby optima of the batch's prices, strictly feasible in the end.

    A step is taken if it lowers cost + ρ max(0, E − β_thresh) by a fair part of what the tangent promised; the
    radius grows with such success and shrinks without. ρ follows the knapsack's marginal price. Each point that
    was evaluated and is feasible counts, so that a bad step costs time at worst, never feasibility. Many rows at
    once are walked in single precision; feasibility is judged, and restored, in double.
    """
    units = batch.units().unsqueeze(1)
    rough = batch.rough() if batch.field.rows * starts.shape[1] >= _ROUGH_ROWS else batch
    state = _State.at(rough, starts, units)
    best = _Best(state)
    radii, bend = torch.full_like(state.cost, radius), torch.zeros_like(state.cost)
    for _ in range(steps):
        if clock.expired or bool((radii <= _LAST_RADIUS).all()):
            break
        foreseen = state.excess + bend * radii**2
        step, price = cheapest_step(state.points, foreseen, state.slope, units, radii)
        trial = _State.at(rough, (state.points + step).clamp(0.0, 1.0), units)
        best.update(trial)
        penalty = (2.0 * price).clamp(*_PENALTIES)
        tangent = state.excess + (state.slope * step).sum(-1)
        before = state.penalised(penalty)
        promised = before - (
            state.cost + (units * step).sum(-1) + penalty * (tangent + bend * radii**2).clamp(min=0.0)
        )
        gained = before - trial.penalised(penalty)
        share = torch.where(promised > 1e-12, gained / promised.clamp(min=1e-12), -1.0)
        bend = torch.clamp((trial.excess - tangent) / radii**2, 0.0, 1e6)
        state = state.replaced((gained > 0.0) & (share > 0.05), trial)
        larger = (2.0 * radii).clamp(max=_LARGEST_RADIUS)
        # Where a parabola through what is known of the step has its minimum: Newton's step, if the edge is smooth.
        smaller = (0.5 / (1.0 - share).clamp(min=1e-12)).clamp(*_SHRINK) * radii
        radii = torch.where(share > 0.75, larger, torch.where(share < 0.5, smaller, radii))
    reached = state.cost
    if rough is not batch:
        best = _Best(_State.at(batch, best.points, units))
        state = _State.at(batch, state.points, units)
    _restore(batch, state, units, best)
    settled = (radii <= _SETTLED_RADIUS) & (best.cost <= reached + _SETTLED_SLACK)
    return Walked(best.points, best.cost, settled)


class _Best:
    """The cheapest strictly feasible point that each start has met."""

    def __init__(self, state: _State) -> None:
        self.points = state.points
        self.cost = torch.where(state.feasible, state.cost, torch.inf)

    def update(self, state: _State) -> None:
        better = state.feasible & (state.cost < self.cost)
        self.points = torch.where(better.unsqueeze(-1), state.points, self.points)
        self.cost = torch.where(better, state.cost, self.cost)


def cheapest_step(
    points: Tensor, excess: Tensor, slope: Tensor, units: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the cheapest step [S, P, K] within `radius` that meets the tangent's constraint, and λ [S, P].

    Everything is lowered as far as it goes, then bought back by cost per degradation avoided; where all of it is
    not enough, all is bought. λ is the dearest bought: the price of degradation.
    """
    down = torch.maximum(-radius.unsqueeze(-1), -points)
    up = torch.minimum(radius.unsqueeze(-1), 1.0 - points)
    # What costs nothing is bought at once, where it helps.
    least = torch.where((units <= 0.0) & (slope < 0.0), up, down)
    needed = excess + (slope * least).sum(-1)
    avoided = (slope * (least - up)).clamp(min=0.0)
    price = torch.where(avoided > 0.0, units / (-slope).clamp(min=1e-300), torch.inf)
    price, order = price.sort(dim=-1)
    each = avoided.gather(-1, order)
    missing = needed.unsqueeze(-1) - (each.cumsum(-1) - each)
    bought = (missing / each.clamp(min=1e-300)).clamp(0.0, 1.0) * (each > 0.0)
    share = torch.empty_like(bought).scatter_(-1, order, bought)
    marginal = torch.where(bought > 0.0, price, 0.0).amax(-1)
    return least + share * (up - least), marginal


def _restore(batch: Batch, state: _State, units: Tensor, best: _Best) -> None:
    """Move points just inside the edge by what avoids degradation most cheaply: Newton's steps in a resource."""
    for index in range(_RESTORING_STEPS):
        room = torch.where(state.slope < 0.0, 1.0 - state.points, 0.0)
        price = torch.where(room > 0.0, units / (-state.slope).clamp(min=1e-300), torch.inf)
        cheapest = price.argmin(-1, keepdim=True)
        slope = (-state.slope).gather(-1, cheapest).clamp(min=1e-9)
        # A hair more with every step, as the edge may be curved.
        length = (state.excess.unsqueeze(-1) + 1e-10 * 10.0**index) / slope
        length = length.clamp(-_RESTORING_RADIUS, _RESTORING_RADIUS)
        moved = (state.points + torch.zeros_like(state.points).scatter_(-1, cheapest, length)).clamp(0.0, 1.0)
        state = _State.at(batch, moved, units)
        best.update(state)
        if bool(torch.isfinite(best.cost).all()) and index >= 1 and bool(state.feasible.all()):
            break
