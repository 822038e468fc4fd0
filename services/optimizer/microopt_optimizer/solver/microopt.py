"""The production solver: paper eq. (2) by many walks on the closed form of E(β), and prices for capacities."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import microopt
from microopt.messages import Problem, Solution
from microopt_optimizer.solver.answers import Plan, slice_solutions
from microopt_optimizer.solver.base import Clock, Models
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.descent import Found, descend
from microopt_optimizer.solver.joint import Coordinator
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.shortage import share_out, within


class MicroOptSolver:
    """Holds every SLA at the least cost found.

    A status is `optimal` when the walk to the allocation came to its end: no step promises anything cheaper; where
    capacities bind, the joint cost must also be within 0.1 % of the dual's value. The model is not convex: this is
    the best of many local minima, not a proof. `feasible` is one that holds the SLA but was cut short by the
    deadline or failed that test; `infeasible` one that does not hold it.
    """

    name = "microopt"

    def solve(self, problem: Problem, models: Models) -> Solution:
        """Return an allocation for every slice; see `Solver`."""
        clock = Clock(problem.deadline_s)
        with torch.no_grad():
            pool = Pool(problem, models)
            found = [
                descend(batch, clock.part(1.0 / (len(pool.batches) - index)), _current(pool, batch))
                for index, batch in enumerate(pool.batches)
            ]
            outcome = _alone(pool, found)
            if not pool.within_capacity(outcome.plan.allocations):
                outcome = _together(pool, found, outcome.plan, clock)
            slices = slice_solutions(pool, outcome.plan)
        return Solution(
            pool=problem.pool,
            interval=problem.interval,
            optimizer=self.name,
            slices=slices,
            version=microopt.__version__,
            capacity_prices=dict(zip(pool.names, outcome.plan.prices.tolist(), strict=True)),
            cost_bound=max(0.0, outcome.bound) if math.isfinite(outcome.bound) else None,
            solve_s=clock.elapsed_s,
        )


@dataclass(frozen=True)
class _Outcome:
    """A plan, and a lower bound on the cost of all slices that can be met."""

    plan: Plan
    bound: float


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
    return _Outcome(plan, float((allocations[met] @ pool.weights).sum()))


def _together(pool: Pool, found: list[Found], alone: Plan, clock: Clock) -> _Outcome:
    """Return a plan within the capacities: at prices if the slices fit, by priority if they do not.

    Slices that cannot be met whatever they get come last, and keep only their floors from the others.
    """
    met = _met(pool, found)
    meetable = [place for place, can in enumerate(met) if can]
    unmet = [place for place, can in enumerate(met) if not can]
    coordinator = Coordinator(pool, found, alone.allocations, clock)
    last = pool.problem.capacity_prices
    start = torch.tensor([last.get(name, 0.0) for name in pool.names], dtype=torch.float64)
    joint = coordinator.solve(meetable, pool.capacity - pool.floors[unmet].sum(0), start)

    def fit(places: list[int], capacity: Tensor) -> Tensor | None:
        if joint.allocations is not None and places == meetable:
            return joint.allocations
        own = alone.allocations[places]
        if within(own, capacity):
            return own
        return coordinator.solve(places, capacity, joint.prices).allocations if met[places[0]] else None

    # If all that can be met fit together, they are one level; else each priority is one.
    fits = joint.allocations is not None
    ranks = [(can, 0 if can and fits else one.priority) for can, one in zip(met, pool.slices, strict=True)]
    allocations, shorted = share_out(ranks, alone.allocations, pool.floors, pool.capacity, fit)
    settled = [joint.closed and can for can in met]
    return _Outcome(Plan(allocations, settled, shorted, joint.prices), joint.bound if fits else math.nan)


def _met(pool: Pool, found: list[Found]) -> list[bool]:
    met = [True] * len(pool.slices)
    for batch, one in zip(pool.batches, found, strict=True):
        for place, feasible in zip(batch.position, one.feasible.tolist(), strict=True):
            met[place] = feasible
    return met
