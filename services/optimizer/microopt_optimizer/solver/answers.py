"""What a solver says about allocations it has settled on: E(β), cost, prices and reasons, in the wire's terms."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

import microopt
from microopt.messages import SliceSolution, Solution, Status
from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.descent import degradation_prices
from microopt_optimizer.solver.grouping import has_traffic
from microopt_optimizer.solver.pool import Pool

_MOST_NAMED = 6
_LONGEST_REASON = 2000  # of what a message may hold: a remark must not cost the answer


@dataclass
class Plan:
    """Allocations [S, R] with what is known of each slice's: settled, shorted, and a sentence to begin with.

    `prices` are those of the capacities [R], None where unknown. `judged` overrides what E(β) alone would say of a
    slice: it is infeasible for the reason given in `reasons`.
    """

    allocations: Tensor
    settled: list[bool]
    shorted: list[bool]
    prices: Tensor | None
    reasons: dict[int, str] = field(default_factory=dict)
    judged: frozenset[int] = frozenset()


def solution(optimizer: str, pool: Pool, plan: Plan, clock: Clock, cost_bound: float | None = None) -> Solution:
    """Return an optimizer's answer to the pool's problem."""
    return Solution(
        pool=pool.problem.pool,
        interval=pool.problem.interval,
        optimizer=optimizer,
        slices=slice_solutions(pool, plan),
        version=microopt.__version__,
        capacity_prices={} if plan.prices is None else dict(zip(pool.names, plan.prices.tolist(), strict=True)),
        cost_bound=cost_bound,
        solve_s=clock.elapsed_s,
    )


def slice_solutions(pool: Pool, plan: Plan) -> list[SliceSolution]:
    """Return every slice's answer, judged by E(β) recomputed at exactly the allocation that is sent."""
    degradation = pool.degradation(plan.allocations)
    degradation_price = _degradation_prices(pool, plan)
    cost = plan.allocations @ pool.weights
    answers = []
    for place, one in enumerate(pool.slices):
        allocation = dict(zip(pool.names, plan.allocations[place].tolist(), strict=True))
        reached = min(1.0, max(0.0, float(degradation[place])))
        met = reached <= one.sla.degradation_threshold and place not in plan.judged
        status: Status = "infeasible" if not met else "optimal" if plan.settled[place] else "feasible"
        answers.append(
            SliceSolution(
                slice=one.slice,
                allocation={name: allocation[name] for name in one.bounds},
                status=status,
                expected_degradation=reached,
                degradation_price=float(degradation_price[place]) if met else None,
                cost=float(cost[place]),
                reason="; ".join(_sentences(pool, plan, place, reached, met))[:_LONGEST_REASON],
            )
        )
    return answers


def _sentences(pool: Pool, plan: Plan, place: int, reached: float, met: bool) -> list[str]:
    one = pool.slices[place]
    threshold = one.sla.degradation_threshold
    sentences = [plan.reasons[place]] if place in plan.reasons else []
    if plan.shorted[place]:
        effect = "still meets its SLA" if met else f"is degraded to {reached:.4g}, threshold {threshold:g}"
        sentences.append(
            f"slice {one.slice} (priority {one.priority}) {effect}: the capacities of pool {pool.problem.pool} do "
            "not hold all slices, so higher priorities came first and equals share in proportion"
        )
    elif not met and not sentences:
        sentences.append(
            f"slice {one.slice}: the best reachable degradation within its bounds is {reached:.4g}, "
            f"threshold {threshold:g}"
        )
    if has_traffic(one):
        outside = (_outside_training(pool, place, plan.allocations[place]), _bounds_beyond_training(pool, place))
        sentences += [sentence for sentence in outside if sentence]
    return sentences


def _bounds_beyond_training(pool: Pool, place: int) -> str:
    """Return a sentence that names the bounds that let an allocation be where the model was never measured."""
    one = pool.slices[place]
    beyond = [
        f"{resource.name} {bounds.floor:.6g} to {bounds.ceiling:.6g} "
        f"(trained {resource.trained.low:g} to {resource.trained.high:g})"
        for resource in pool.models[one.model].header.resources
        for bounds in [one.bounds[resource.name]]
        if bounds.floor < resource.trained.low or bounds.ceiling > resource.trained.high
    ]
    return f"bounds reach beyond what model {one.model} was trained for: {listed(beyond)}" if beyond else ""


def _outside_training(pool: Pool, place: int, allocation: Tensor) -> str:
    """Return a sentence that names the inputs for which the model was never measured, or nothing."""
    one = pool.slices[place]
    header = pool.models[one.model].header
    pairs = zip(one.traffic.users, one.traffic.weights, strict=True)
    expected = [users for users, weight in pairs if users > 0.0 and weight > 0.0]
    inputs = [("users", min(expected), header.users), ("users", max(expected), header.users)]
    for resource in header.resources:
        value = float(allocation[pool.names.index(resource.name)])
        inputs.append((resource.name, value, resource.trained))
    outside = [
        f"{name} {value:.6g} (trained {trained.low:g} to {trained.high:g})"
        for name, value, trained in inputs
        if not trained.low <= value <= trained.high
    ]
    return f"model {one.model} extrapolates: {listed(list(dict.fromkeys(outside)))}" if outside else ""


def listed(parts: Sequence[str]) -> str:
    """Return the first few of the parts in a line, and how many more there are."""
    more = len(parts) - _MOST_NAMED
    return ", ".join(parts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _degradation_prices(pool: Pool, plan: Plan) -> Sequence[float]:
    prices = torch.zeros(len(pool.slices), dtype=torch.float64)
    for batch in pool.batches:
        dearer = batch if plan.prices is None else batch.with_capacity_prices(plan.prices)
        points = batch.points(pool.gather(batch, plan.allocations))
        prices[list(batch.position)] = degradation_prices(dearer, points)
    result: list[float] = prices.clamp(max=1e12).tolist()
    return result
