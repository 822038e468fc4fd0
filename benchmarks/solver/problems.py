"""Problems as messages, and what every solver measured here is judged by."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import torch
from msgspec.structs import replace
from torch import Tensor

from microopt.messages import Interval, Problem, SliceProblem, Solution, Traffic
from microopt.specs import Bounds, ResourceSpec, Sla
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.base import Models, Solver

AMPLE: Final = 1e9
DEADLINE_S: Final = 600.0
"""So long that no solver is cut short: what is measured is the time that each takes by itself."""
_INTERVAL: Final = Interval(datetime(2026, 1, 1, tzinfo=UTC), 3600.0)


def pool(slices: Sequence[SliceProblem], resources: Mapping[str, ResourceSpec]) -> Problem:
    """Return the problem of some slices."""
    return Problem(
        pool="bench", interval=_INTERVAL, resources=dict(resources), slices=list(slices), deadline_s=DEADLINE_S
    )


def one_slice(number: int, sla: Sla, traffic: Traffic, bounds: Mapping[str, Bounds], model: str) -> SliceProblem:
    """Return the problem of one slice; its number makes its S-NSSAI."""
    return SliceProblem(slice=f"1-{number:06x}", sla=sla, traffic=traffic, bounds=dict(bounds), model=model)


def busier(problem: Problem, factor: float) -> Problem:
    """Return the problem with every slice's users times `factor`."""
    slices = [
        replace(one, traffic=Traffic(tuple(factor * x for x in one.traffic.users), one.traffic.weights))
        for one in problem.slices
    ]
    return replace(problem, slices=slices)


def warmed(problem: Problem, last: Solution) -> Problem:
    """Return the problem with where to begin: the last interval's allocations and prices."""
    given = {one.slice: one.allocation for one in last.slices}
    slices = [replace(one, current=given[one.slice]) for one in problem.slices]
    return replace(problem, slices=slices, capacity_prices=last.capacity_prices)


def timed(solver: Solver, problem: Problem, models: Models) -> tuple[Solution, float]:
    """Return the answer and the seconds that it took."""
    began = time.perf_counter()
    solution = solver.solve(problem, models)
    return solution, time.perf_counter() - began


def degradations(one: SliceProblem, model: TrainedModel, resources: Tensor) -> Tensor:
    """Return E(β) [...] of allocations [..., K]: the closed form in float64, in no solver's batch."""
    users = torch.tensor(one.traffic.users, dtype=torch.float64)
    weights = torch.tensor(one.traffic.weights, dtype=torch.float64)
    with torch.no_grad():
        return expected_degradation(model, users, weights, resources, one.sla.qos_threshold)


def excess(one: SliceProblem, model: TrainedModel, allocation: Mapping[str, float]) -> float:
    """Return by how much E(β) is above its threshold: feasible, strictly judged, is 0 or less.

    Outside of the bounds it is infinite.
    """
    if any(not bounds.floor <= allocation[name] <= bounds.ceiling for name, bounds in one.bounds.items()):
        return float("inf")
    given = torch.tensor([allocation[name] for name in model.header.resource_names], dtype=torch.float64)
    return float(degradations(one, model, given)) - one.sla.degradation_threshold


def cost(problem: Problem, allocation: Mapping[str, float]) -> float:
    """Return the cost of one slice's allocation."""
    return sum(problem.resources[name].weight * value for name, value in allocation.items())
