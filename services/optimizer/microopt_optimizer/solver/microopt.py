"""The production solver: paper eq. (2) by many walks on the closed form of E(β), and prices for capacities."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from microopt.messages import Problem, Solution
from microopt_optimizer.solver.answers import Plan, solution
from microopt_optimizer.solver.base import Clock, Models
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.descent import Found, descend
from microopt_optimizer.solver.device import device_of, solving_on
from microopt_optimizer.solver.joint import Coordinator, Joint
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.shortage import share_out, within


class MicroOptSolver:
    """Holds every SLA at the least cost found.

    A status is `optimal` when the walks to the allocation came to their end, with the last steps gaining next to
    nothing; where capacities bind, when the joint cost is within 0.1 % of the dual's value. The model is not
    convex: this is the best of many local minima, not a proof. `feasible` is one that holds the SLA but was cut
    short by the deadline or failed that test; `infeasible` one that does not hold it. Problems are solved on the
    device that their models are on.
    """

    name = "microopt"

    def solve(self, problem: Problem, models: Models) -> Solution:
        """Return an allocation for every slice; see `Solver`."""
        clock = Clock(problem.deadline_s)
        with torch.inference_mode(), solving_on(device_of(problem, models)):
            pool = Pool(problem, models)
            outcome = _as_before(pool, clock) or _anew(pool, clock)
            bound = max(0.0, outcome.bound) if math.isfinite(outcome.bound) else None
            return solution(self.name, pool, outcome.plan, clock, bound)


@dataclass(frozen=True)
class _Outcome:
    """A plan, and a lower bound on the cost of all slices that can be met, NaN where none is known."""

    plan: Plan
    bound: float


def _as_before(pool: Pool, clock: Clock) -> _Outcome | None:
    """Return an outcome from last interval's allocations and prices, or None unless capacities still bind."""
    last = pool.problem.capacity_prices
    prices = torch.tensor([last.get(name, 0.0) for name in pool.names], dtype=torch.float64)
    current = [_current(pool, batch) for batch in pool.batches]
    if not bool((prices > 0.0).any()) or any(points is None for points in current):
        return None
    dearer = [batch.with_capacity_prices(prices) for batch in pool.batches]
    found = _found(dearer, current, clock)
    if not all(_met(pool, found)):
        return None
    own = _alone(pool, found).plan.allocations
    places = list(range(len(pool.slices)))
    joint = Coordinator(pool, found, own, clock).solve(places, pool.capacity, prices)
    if joint.allocations is None or not bool((joint.prices > 0.0).any()):
        return None
    none = [False] * len(places)
    plan = Plan(joint.allocations, [joint.closed] * len(places), none, joint.prices)
    return _Outcome(plan, _as_far_as_certain(found, joint.bound))


def _anew(pool: Pool, clock: Clock) -> _Outcome:
    """Return an outcome from each slice's own best, which is all where capacities suffice."""
    found = _found(pool.batches, [_current(pool, batch) for batch in pool.batches], clock)
    outcome = _alone(pool, found)
    if pool.within_capacity(outcome.plan.allocations):
        return outcome
    return _together(pool, found, outcome.plan, clock)


def _found(batches: list[Batch], current: list[Tensor | None], clock: Clock) -> list[Found]:
    return [
        descend(batch, clock.part(1.0 / (len(batches) - index)), points)
        for index, (batch, points) in enumerate(zip(batches, current, strict=True))
    ]


def _current(pool: Pool, batch: Batch) -> Tensor | None:
    """Return the points [S, K] of the allocations in force, or None unless all of them are known."""
    names = pool.names
    rows = []
    for place, columns in zip(batch.position, batch.columns.tolist(), strict=True):
        current = pool.slices[place].current
        if any(names[column] not in current for column in columns):
            return None
        rows.append([current[names[column]] for column in columns])
    return batch.points(torch.tensor(rows, dtype=torch.float64))


def _alone(pool: Pool, found: list[Found]) -> _Outcome:
    """Return every slice's own best, as if there were no others; slices without traffic get their floors."""
    allocations = pool.floors.clone()
    settled = [True] * len(pool.slices)
    for batch, one in zip(pool.batches, found, strict=True):
        own = pool.spread(batch, batch.allocations(one.points.unsqueeze(1)))
        allocations[list(batch.position)] = own.squeeze(1)
        for place, quiet in zip(batch.position, one.settled.tolist(), strict=True):
            settled[place] = quiet
    plan = Plan(allocations, settled, [False] * len(pool.slices), torch.zeros_like(pool.capacity))
    met = [place for place, can in enumerate(_met(pool, found)) if can]
    return _Outcome(plan, _as_far_as_certain(found, float((allocations[met] @ pool.weights).sum())))


def _as_far_as_certain(found: list[Found], bound: float) -> float:
    return bound if all(one.certain for one in found) else math.nan


def _together(pool: Pool, found: list[Found], alone: Plan, clock: Clock) -> _Outcome:
    """Return a plan within the capacities: at prices if the slices fit, by priority if they do not.

    As many of the highest priorities as fit together are met; the others are shorted. Slices that cannot be met
    whatever they get come last, and keep only their floors from the others.
    """
    met = _met(pool, found)
    coordinator = Coordinator(pool, found, alone.allocations, clock)
    last = pool.problem.capacity_prices
    start = torch.tensor([last.get(name, 0.0) for name in pool.names], dtype=torch.float64)
    joint, first, granted = _joint(pool, coordinator, met, start)

    def fit(places: list[int], capacity: Tensor) -> Tensor | None:
        if places == first:
            return granted
        own = alone.allocations[places]
        if within(own, capacity):
            return own
        return coordinator.solve(places, capacity, joint.prices).allocations if met[places[0]] else None

    together = set(first)
    top = max(one.priority for one in pool.slices) + 1
    ranks = [(can, top if place in together else pool.slices[place].priority) for place, can in enumerate(met)]
    allocations, shorted = share_out(ranks, alone.allocations, pool.floors, pool.capacity, fit)
    settled = [joint.closed and can for can in met]
    bound = joint.bound if joint.allocations is not None else math.nan
    return _Outcome(Plan(allocations, settled, shorted, joint.prices), _as_far_as_certain(found, bound))


def _joint(
    pool: Pool, coordinator: Coordinator, met: list[bool], start: Tensor
) -> tuple[Joint, list[int], Tensor | None]:
    """Return the joint answer for all slices that can be met, which ones fit together, and what these get."""
    levels = sorted({one.priority for one, can in zip(pool.slices, met, strict=True) if can}, reverse=True)

    def solve(count: int, prices: Tensor) -> tuple[Joint, list[int]]:
        chosen = [can and one.priority >= levels[count - 1] for one, can in zip(pool.slices, met, strict=True)]
        places = [place for place, taken in enumerate(chosen) if taken]
        others = [place for place, taken in enumerate(chosen) if not taken]
        return coordinator.solve(places, pool.capacity - pool.floors[others].sum(0), prices), places

    if not levels:
        return Joint(None, torch.zeros_like(pool.capacity), math.nan, False), [], None
    joint, places = solve(len(levels), start)
    if joint.allocations is not None:
        return joint, places, joint.allocations
    fitting, failing, first, granted = 0, len(levels), list[int](), None
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        some, places = solve(middle, joint.prices)
        if some.allocations is None:
            failing = middle
        else:
            fitting, first, granted = middle, places, some.allocations
    return joint, first, granted


def _met(pool: Pool, found: list[Found]) -> list[bool]:
    met = [True] * len(pool.slices)
    for batch, one in zip(pool.batches, found, strict=True):
        for place, feasible in zip(batch.position, one.feasible.tolist(), strict=True):
            met[place] = feasible
    return met
