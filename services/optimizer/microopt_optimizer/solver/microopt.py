"""The production solver: paper eq. (2) by multi-start descent on the closed form, and prices for capacities."""

import torch
from torch import Tensor

import microopt
from microopt.messages import Problem, Solution
from microopt_optimizer.solver.answers import Plan, slice_solutions
from microopt_optimizer.solver.base import Clock, Models
from microopt_optimizer.solver.descent import Found, descend
from microopt_optimizer.solver.joint import Coordinator
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.shortage import share_out, within


class MicroOptSolver:
    """Holds every SLA at the least cost found.

    A status is `optimal` when all stages ran to their end and the last polls, up to 1e-4 of the bounds away
    along every resource and along the constraint's edge, found no cheaper feasible allocation; where capacities
    bind, the joint cost must also be within 0.1 % of the dual's value over all allocations known. The model is
    not convex: this is the best of many local minima, not a proof. `feasible` is one that holds the SLA but was
    cut short by the deadline or failed that test; `infeasible` one that does not hold it.
    """

    name = "microopt"

    def solve(self, problem: Problem, models: Models) -> Solution:
        """Return an allocation for every slice; see `Solver`."""
        clock = Clock(problem.deadline_s)
        pool = Pool(problem, models)
        found = [
            descend(batch, clock.part(1.0 / (len(pool.batches) - index)))
            for index, batch in enumerate(pool.batches)
        ]
        plan = _alone(pool, found)
        if not pool.within_capacity(plan.allocations):
            plan = _together(pool, found, plan, clock)
        return Solution(
            pool=problem.pool,
            interval=problem.interval,
            optimizer=self.name,
            slices=slice_solutions(pool, plan),
            version=microopt.__version__,
            capacity_prices=dict(zip(pool.names, plan.prices.tolist(), strict=True)),
            solve_s=clock.elapsed_s,
        )


def _alone(pool: Pool, found: list[Found]) -> Plan:
    """Return every slice's own best, as if there were no others; slices without traffic get their floors."""
    allocations = pool.floors.clone()
    settled = [True] * len(pool.slices)
    for batch, one in zip(pool.batches, found, strict=True):
        own = batch.allocations(one.points.unsqueeze(1)).squeeze(1)
        allocations[list(batch.position)] = pool.spread(batch, own)
        for place, quiet in zip(batch.position, one.settled.tolist(), strict=True):
            settled[place] = quiet
    return Plan(allocations, settled, [False] * len(pool.slices), torch.zeros_like(pool.capacity))


def _together(pool: Pool, found: list[Found], alone: Plan, clock: Clock) -> Plan:
    """Return a plan within the capacities: at prices if the slices fit, by priority if they do not.

    Slices that cannot be met whatever they get come last, and keep only their floors from the others.
    """
    met = _met(pool, found)
    meetable = [place for place, can in enumerate(met) if can]
    unmet = [place for place, can in enumerate(met) if not can]
    coordinator = Coordinator(pool, found, alone.allocations, clock)
    joint = coordinator.solve(meetable, pool.capacity - pool.floors[unmet].sum(0))

    def fit(places: list[int], capacity: Tensor) -> Tensor | None:
        if joint.allocations is not None and places == meetable:
            return joint.allocations
        own = alone.allocations[places]
        if within(own, capacity):
            return own
        return coordinator.solve(places, capacity).allocations if met[places[0]] else None

    # If all that can be met fit together, they are one level; else each priority is one.
    fits = joint.allocations is not None
    ranks = [(can, 0 if can and fits else one.priority) for can, one in zip(met, pool.slices, strict=True)]
    allocations, shorted = share_out(ranks, alone.allocations, pool.floors, pool.capacity, fit)
    settled = [joint.closed and can for can in met]
    return Plan(allocations, settled, shorted, joint.prices)


def _met(pool: Pool, found: list[Found]) -> list[bool]:
    met = [True] * len(pool.slices)
    for batch, one in zip(pool.batches, found, strict=True):
        for place, feasible in zip(batch.position, one.feasible.tolist(), strict=True):
            met[place] = feasible
    return met
