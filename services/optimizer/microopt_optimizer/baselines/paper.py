"""Algorithm 1 of the paper, with what the printed text leaves open or gets wrong decided."""

from dataclasses import dataclass

import torch
from torch import Tensor

from microopt.messages import Problem, Solution
from microopt_optimizer.baselines.model_batch import model_batches
from microopt_optimizer.baselines.paper_descent import Descent, PaperSettings
from microopt_optimizer.baselines.paper_visited import Visited
from microopt_optimizer.solver.answers import Plan, solution
from microopt_optimizer.solver.base import Clock, Models
from microopt_optimizer.solver.pool import Pool
from microopt_optimizer.solver.shortage import share_out, within


class PaperSolver:
    """The paper's primal-dual method: sampled QoS, a sigmoid for the indicator, strict β for the multipliers.

    Returned is the cheapest point come to whose E(β) in closed form, the indicator's exact expectation, is within
    the threshold (printed: "the best LB"). A status is `feasible` or `infeasible`; nothing is claimed to be
    `optimal`, as the printed lower bound is none: it supposes that each descent ends in the global minimum.
    """

    name = "microopt-paper"
    scalar: float | None = None
    """How many standard deviations below its mean the QoS is taken to be, as a number; None: a distribution."""

    def __init__(self, settings: PaperSettings | None = None) -> None:
        self.settings = settings or PaperSettings()

    def solve(self, problem: Problem, models: Models) -> Solution:
        """Return an answer for every slice; see `Solver`."""
        clock = Clock(problem.deadline_s)
        pool = Pool(problem, models)
        outer = OuterLoop(pool, self.settings, self.scalar)
        outer.run(clock)
        plan = outer.plan()
        plan.reasons = self.reasons(pool, plan, outer.met())
        return solution(self.name, pool, plan, clock)

    def reasons(self, pool: Pool, plan: Plan, met: list[bool]) -> dict[int, str]:
        """Return what there is to say of slices, by place; `met`: the solver found what it takes for feasible."""
        return {}


@dataclass
class _Part:
    """One batch in the outer loop: λ [S] as a share of the descent's scale, and what was visited."""

    descent: Descent
    price: Tensor
    visited: Visited
    columns: Tensor


class OuterLoop:
    """Lines 1 to 14: multipliers, bounds, and the best feasible point."""

    def __init__(self, pool: Pool, settings: PaperSettings, scalar: float | None) -> None:
        self._pool = pool
        self._settings = settings
        self._parts = [self._part(Descent(batch, settings, scalar)) for batch in model_batches(pool)]
        self._capacity_prices = torch.zeros_like(pool.capacity)
        self._upper = float("inf")
        self._lower = [0.0]
        self._best = self._cheapest(self._capacity_prices)
        self._keep_if_better()

    def run(self, clock: Clock) -> None:
        """Repeat until the bounds meet, `outer_rounds` are done, or the clock expires."""
        # "and", as in the inner loop.
        for _ in range(self._settings.outer_rounds if self._parts else 0):
            if clock.expired or self._gap() <= self._settings.gap:
                break
            self._round(clock)

    def met(self) -> list[bool]:
        """Return for each slice whether a feasible point is known."""
        met = [True] * len(self._pool.slices)
        for part in self._parts:
            for place, feasible in zip(part.descent.batch.position, part.visited.feasible.tolist(), strict=True):
                met[place] = feasible
        return met

    def plan(self) -> Plan:
        """Return the best joint point; if none is within the capacities, what is left of them by priority."""
        count = len(self._pool.slices)
        if within(self._best, self._pool.capacity):
            return Plan(self._best, [False] * count, [False] * count, self._capacity_prices)
        own = self._cheapest(torch.zeros_like(self._capacity_prices))
        at_prices = self._cheapest(self._capacity_prices)

        def fit(places: list[int], capacity: Tensor) -> Tensor | None:
            return next((each[places] for each in (own, at_prices) if within(each[places], capacity)), None)

        ranks = [(can, one.priority) for can, one in zip(self.met(), self._pool.slices, strict=True)]
        allocations, shorted = share_out(ranks, own, self._pool.floors, self._pool.capacity, fit)
        return Plan(allocations, [False] * count, shorted, self._capacity_prices)

    def _part(self, descent: Descent) -> _Part:
        # The ceilings: what there is before anything was tried, and where nothing is feasible.
        ceilings = torch.ones_like(descent.batch.floors).unsqueeze(1)
        visited = Visited(descent.batch, ceilings, descent.estimator.strict(ceilings).judged)
        price = torch.full((len(ceilings),), self._settings.degradation_price, dtype=torch.float64)
        return _Part(descent, price, visited, descent.batch.columns[0])

    def _round(self, clock: Clock) -> None:
        reached = self._pool.floors.clone()
        value, converged = 0.0, True
        for part in self._parts:
            batch, prices = part.descent.batch, self._capacity_prices[part.columns]
            ends = part.descent.run(part.price, prices, batch.points(part.visited.best(prices)), clock)
            points, converged = ends.points, converged and ends.converged
            degradation = part.descent.estimator.strict(points)
            part.visited.add(points, degradation.judged)
            reached[list(batch.position)] = self._pool.spread(batch, batch.allocations(points[:, :1])).squeeze(1)
            violation = degradation.sampled[:, 0] - batch.threshold
            value += float((part.descent.scale * part.price * violation).sum())
            part.price = (part.price + self._settings.degradation_step * violation).clamp(min=0.0)
        over = reached.sum(0) - self._pool.capacity
        if converged:  # elsewhere the Lagrangian is no infimum (eq. 8), so no lower bound
            self._lower.append(value + float((reached @ self._pool.weights).sum() + self._capacity_prices @ over))
        # As a share of the larger of both sums, which is within −1 to 1 whatever the units.
        share = over / torch.maximum(reached.sum(0), self._pool.capacity).clamp(min=1e-300)
        step = self._settings.capacity_step * self._pool.weights
        self._capacity_prices = (self._capacity_prices + step * share).clamp(min=0.0)
        self._keep_if_better()

    def _keep_if_better(self) -> None:
        """Take UB from points that hold every SLA and every capacity (printed: from any).

        With many slices no single iterate does: each slice brings the cheapest, at prices η + μ, of the feasible
        points that it has come to.
        """
        candidate = self._cheapest(self._capacity_prices)
        if not all(self.met()):
            self._best = candidate
        elif within(candidate, self._pool.capacity):
            cost = float((candidate @ self._pool.weights).sum())
            if cost < self._upper:
                self._upper, self._best = cost, candidate

    def _gap(self) -> float:
        """Return (UB − LB) / UB; a Lagrangian above UB is no lower bound: its descent ended in a worse minimum."""
        if self._upper in (0.0, float("inf")):
            return self._upper
        return (self._upper - max(value for value in self._lower if value <= self._upper)) / self._upper

    def _cheapest(self, capacity_prices: Tensor) -> Tensor:
        """Return each slice's cheapest feasible allocation at prices η + μ, else its least degraded, [S, R]."""
        allocations = self._pool.floors.clone()
        for part in self._parts:
            batch = part.descent.batch
            own = part.visited.best(capacity_prices[part.columns])
            allocations[list(batch.position)] = self._pool.spread(batch, own.unsqueeze(1)).squeeze(1)
        return allocations
