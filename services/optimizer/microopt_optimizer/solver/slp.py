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
STEPS = 16
_TRIED_RADII = (1e-9, 0.5)
_FACTORS = (2.0, 0.4)
_FACTORS_OF_FEW = (2.0, 1.2, 0.8, 0.5, 0.3, 0.2, 0.1, 0.06, 0.03, 0.01)
_PRICED = 1  # which factor's step tells the price of degradation
_FEW_ROWS = 4096
_SETTLED_RADIUS = 1e-3
_SETTLED_SLACK = 1e-5
_STANDSTILL = 1e-5
_LATELY = 2
_LEAST_SHARE = 0.375
_RESTORING_STEPS = 3
_RESTORING_RADIUS = 0.02
_PENALTIES = (0.3, 1e3)
_MOST_BEND = 1e6
_PROBABILITIES = (1e-30, 1.0 - 1e-15)
_INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class Walked:
    """Where each of P starts ended: a strictly feasible point [S, P, K], and its cost [S, P], infinite if none.

    Costs are shares of all spans' cost. `settled` [S, P] says that the steps had become small and gained next to
    nothing, and that restoring feasibility then cost next to nothing.
    """

    points: Tensor
    cost: Tensor
    settled: Tensor

    def with_more(self, other: "Walked") -> "Walked":
        """Return these walks and others of the same slices."""
        pairs = ((self.points, other.points), (self.cost, other.cost), (self.settled, other.settled))
        return Walked(*(torch.cat(pair, dim=1) for pair in pairs))

    def select(self, rows: Tensor) -> "Walked":
        """Return the walks of some slices, by their rows."""
        return Walked(self.points[rows], self.cost[rows], self.settled[rows])

    def among(self, rows: Tensor, slices: int) -> "Walked":
        """Return the walks as those of rows of so many slices; the others have none."""
        every = [part.new_zeros(slices, *part.shape[1:]) for part in (self.points, self.cost, self.settled)]
        every[1].fill_(torch.inf)
        for all_, some in zip(every, (self.points, self.cost, self.settled), strict=True):
            all_[rows] = some
        return Walked(*every)

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return each slice's cheapest point [S, K], its cost [S], and whether an ended walk is as good [S]."""
        cost, index = self.cost.min(dim=1)
        settled = self.settled & (self.cost <= cost.unsqueeze(1) + _SETTLED_SLACK)
        return self.points[torch.arange(index.shape[0]), index], cost, settled.any(dim=1)


@dataclass
class _State:
    """Points [..., K] with their cost, whether they are feasible, their excess over the target, and its slope.

    The excess is that of Φ⁻¹(E(β)): for a normal QoS and one number of users this is (q_thresh − μ)/σ, which is
    nearly linear where E(β) itself is flat at both ends.
    """

    points: Tensor
    cost: Tensor
    feasible: Tensor
    excess: Tensor
    slope: Tensor

    def penalised(self, penalty: Tensor) -> Tensor:
        return self.cost + penalty * self.excess.clamp(min=0.0)

    def picked(self, index: Tensor) -> "_State":
        """Return of points [S, P, R, K] those at an index [S, P, 1]."""
        return _State(**{name: _picked(value, index) for name, value in vars(self).items()})

    def replaced(self, where: Tensor, other: "_State") -> "_State":
        wide = where.unsqueeze(-1)
        return _State(
            torch.where(wide, other.points, self.points),
            torch.where(where, other.cost, self.cost),
            torch.where(where, other.feasible, self.feasible),
            torch.where(where, other.excess, self.excess),
            torch.where(wide, other.slope, self.slope),
        )


class _Ground:
    """What is walked on: cost and excess over the unit cube."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._target = batch.target.unsqueeze(1)
        self._aim = torch.special.ndtri(self._target.clamp(*_PROBABILITIES))
        self.units = batch.units().unsqueeze(1)

    def at(self, points: Tensor) -> _State:
        """Return what is known of points [S, ..., K]."""
        flat = points.flatten(1, -2)
        degradation, slope = self._batch.degradation_and_slope(flat)
        quantile = torch.special.ndtri(degradation.clamp(*_PROBABILITIES))
        density = torch.exp(-0.5 * quantile**2) * _INVERSE_SQRT_2PI
        return _State(
            points=points,
            cost=(flat * self.units).sum(-1).view(points.shape[:-1]),
            feasible=(degradation <= self._target).view(points.shape[:-1]),
            excess=(quantile - self._aim).view(points.shape[:-1]),
            slope=(slope / density.unsqueeze(-1)).view(points.shape),
        )


def are_few(rows: float) -> bool:
    """Return whether a step at so many rows of a model costs little more than at one."""
    return rows < _FEW_ROWS


def walk(batch: Batch, starts: Tensor, clock: Clock, radius: float = FIRST_RADIUS, steps: int = STEPS) -> Walked:
    """Walk from `starts` [S, P, K] to nearby optima of the batch's prices, strictly feasible in the end.

    They end when the best starts stand still, not before 3/8 of `steps`. Few slices get twice the steps if they
    need them, and more radii tried in each. Many are walked in single precision; feasibility is judged, and
    restored, in double.
    """
    few = are_few(batch.field.rows * starts.shape[1])
    ground = _Ground(batch)
    rough = ground if few else _Ground(batch.rough())
    factors = starts.new_tensor(_FACTORS_OF_FEW if few else _FACTORS)
    state = rough.at(starts)
    best = _Best(state)
    radii, bend = torch.full_like(state.cost, radius), torch.zeros_like(state.cost)
    costs, least = [best.cost], max(_LATELY, int(_LEAST_SHARE * steps))
    for index in range(2 * steps if few else steps):
        if clock.expired or (index >= least and _stand(costs)):
            break
        state, radii, bend = _stepped(rough, state, radii, bend, factors, best)
        costs.append(best.cost)
    reached, quiet = state.cost, _lately_gained(costs) <= _SETTLED_SLACK
    if not few:
        best = _Best(ground.at(best.points))
        state = ground.at(state.points)
    _restore(ground, state, best)
    settled = quiet & (radii <= _SETTLED_RADIUS) & (best.cost <= reached + _SETTLED_SLACK)
    return Walked(best.points, best.cost, settled)


def _lately_gained(costs: list[Tensor]) -> Tensor:
    """Return how much of its cost each start has lost in the last few steps; 0 while it knows none."""
    return (costs[max(0, len(costs) - 1 - _LATELY)] - costs[-1]).nan_to_num(nan=0.0)


def _stand(costs: list[Tensor]) -> bool:
    """Return whether no slice's best start has gained anything to speak of lately."""
    before, now = (cost.amin(-1) for cost in (costs[-1 - _LATELY], costs[-1]))
    return bool(((before - now).nan_to_num(nan=0.0) <= _STANDSTILL).all())


def _stepped(
    ground: _Ground, state: _State, radii: Tensor, bend: Tensor, factors: Tensor, best: "_Best"
) -> tuple[_State, Tensor, Tensor]:
    """Return the state, radii [S, P] and bends [S, P] of the edge after a step; `best` learns where it led.

    Several radii, `factors` [R] times the last, are tried at once, and what has the least cost + ρ max(0, excess)
    is taken, if that is less than before; otherwise the radius falls to the least that was tried. ρ follows the
    knapsack's marginal price, and how much the edge was bent in the last step is bought off beforehand.
    """
    tried = (radii.unsqueeze(-1) * factors).clamp(*_TRIED_RADII)
    foreseen = state.excess.unsqueeze(-1) + bend.unsqueeze(-1) * tried**2
    here, slope, units = state.points.unsqueeze(2), state.slope.unsqueeze(2), ground.units.unsqueeze(1)
    moves, price = cheapest_step(here, foreseen, slope, units, tried)
    trials = ground.at((here + moves).clamp(0.0, 1.0))
    penalty = (2.0 * price[..., _PRICED]).clamp(*_PENALTIES)
    least, index = trials.penalised(penalty.unsqueeze(-1)).min(-1, keepdim=True)
    trial, taken = trials.picked(index), _picked(tried, index)
    best.update(trial)
    gained = state.penalised(penalty) > least.squeeze(-1)
    tangent = state.excess + (state.slope * (trial.points - state.points)).sum(-1)
    bend = ((trial.excess - tangent) / taken**2).clamp(0.0, _MOST_BEND)
    return state.replaced(gained, trial), torch.where(gained, taken, tried[..., -1]), bend


def _picked(values: Tensor, index: Tensor) -> Tensor:
    """Return of values [S, P, R] or [S, P, R, K] those at an index [S, P, 1]."""
    if values.ndim == index.ndim:
        return values.gather(2, index).squeeze(2)
    return values.gather(2, index.unsqueeze(-1).expand(*index.shape, values.shape[-1])).squeeze(2)


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
    """Return the cheapest step [..., K] within `radius` [...] that meets the tangent's constraint, and λ [...].

    Everything is lowered as far as it goes, then bought back by cost per degradation avoided; where all of it is
    not enough, all is bought. λ is the dearest bought: the price of degradation.
    """
    wide = radius.unsqueeze(-1)
    least, up = torch.maximum(-wide, -points), torch.minimum(wide, 1.0 - points)
    needed = excess + (slope * least).sum(-1)
    avoided = (slope * (least - up)).clamp(min=0.0)
    price = torch.where(slope < 0.0, units / (-slope).clamp(min=1e-300), torch.inf)
    price, order = price.sort(dim=-1)
    order = order.expand_as(avoided)
    each = avoided.gather(-1, order)
    missing = needed.unsqueeze(-1) - (each.cumsum(-1) - each)
    bought = (missing / each.clamp(min=1e-300)).clamp(0.0, 1.0) * (each > 0.0)
    share = torch.empty_like(bought).scatter_(-1, order, bought)
    marginal = torch.where(bought > 0.0, price, 0.0).amax(-1)
    return least + share * (up - least), marginal


def _restore(ground: _Ground, state: _State, best: _Best) -> None:
    """Move points just inside the edge by what avoids degradation most cheaply: Newton's steps in a resource."""
    for index in range(_RESTORING_STEPS):
        room = torch.where(state.slope < 0.0, 1.0 - state.points, 0.0)
        price = torch.where(room > 0.0, ground.units / (-state.slope).clamp(min=1e-300), torch.inf)
        cheapest = price.argmin(-1, keepdim=True)
        slope = (-state.slope).gather(-1, cheapest).clamp(min=1e-9)
        # A hair more with every step, as the edge may be curved.
        length = (state.excess.unsqueeze(-1) + 1e-10 * 10.0**index) / slope
        length = length.clamp(-_RESTORING_RADIUS, _RESTORING_RADIUS)
        moved = (state.points + torch.zeros_like(state.points).scatter_(-1, cheapest, length)).clamp(0.0, 1.0)
        state = ground.at(moved)
        best.update(state)
        if bool(torch.isfinite(best.cost).all()) and index >= 1 and bool(state.feasible.all()):
            break
