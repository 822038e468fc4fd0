"""What optimizers share that look at one slice after another: bounds, capacities by priority, and the answer."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from microopt.messages import Problem, SliceProblem, Solution
from microopt_optimizer.solver.answers import Plan, solution
from microopt_optimizer.solver.base import Clock, Models
from microopt_optimizer.solver.grouping import has_traffic
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.shortage import share_out, within


class Wanted(NamedTuple):
    """The values by resource that a slice should have; `reason` says why they do not hold what was asked for."""

    allocation: dict[str, float]
    reason: str = ""


class IndependentSolver(ABC):
    """An optimizer that knows no capacities: where its allocations exceed them, slices are shorted by priority.

    A status is `feasible` where the SLA holds at the forecast's traffic, never `optimal`.
    """

    name: str

    def solve(self, problem: Problem, models: Models) -> Solution:
        """Return an allocation for every slice; see `Solver`."""
        clock = Clock(problem.deadline_s)
        pool = Pool(problem, models)
        return solution(self.name, pool, self._plan(pool, clock), clock)

    @abstractmethod
    def wanted(self, pool: Pool, one: SliceProblem, clock: Clock) -> Wanted:
        """Return what one slice should have, within its bounds, before `clock` expires."""

    def _plan(self, pool: Pool, clock: Clock) -> Plan:
        wanted = pool.floors.clone()
        reasons = {}
        busy = [place for place, one in enumerate(pool.slices) if self.considers(one)]
        for index, place in enumerate(busy):
            one = pool.slices[place]
            found = self.wanted(pool, one, clock.part(1.0 / (len(busy) - index)))
            values = [found.allocation.get(name, 0.0) for name in pool.names]
            wanted[place] = torch.tensor(values, dtype=torch.float64)
            if found.reason:
                reasons[place] = found.reason
        wanted = torch.minimum(torch.maximum(wanted, pool.floors), pool.ceilings)
        ranks = [(place not in reasons, one.priority) for place, one in enumerate(pool.slices)]

        def fit(places: list[int], capacity: Tensor) -> Tensor | None:
            return wanted[places] if within(wanted[places], capacity) else None

        allocations, shorted = share_out(ranks, wanted, pool.floors, pool.capacity, fit)
        settled = [False] * len(pool.slices)
        return Plan(allocations, settled, shorted, None, reasons, frozenset(reasons))

    def considers(self, one: SliceProblem) -> bool:
        """Return whether the slice needs more than its floors: by default, whether it expects any traffic."""
        return has_traffic(one)
