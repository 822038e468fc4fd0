"""A lower bound on the cost of a pool, by grids: the value of the Lagrangian dual at given prices (paper eq. 7).

For any prices μ ≥ 0 no feasible allocation costs less than Σ_s min{(η + μ)·r : E_s(r) ≤ β_s} − μ·R. Each inner
minimum is searched for by a dense grid and finer ones along the edge (`solver.reference`), so the bound does not
rest on the solver whose prices they are; it is exact as far as the grid is.
"""

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
from msgspec.structs import replace
from torch import Tensor

from microopt.messages import Problem
from microopt_optimizer.slice_model.model_file import TrainedModel
from solver import reference
from solver.instance import Instance

LINES = 128
_KEPT = 2
_FINEST = 1e-4
_PROCESSES = 2


def cost_bound(problem: Problem, prices: Mapping[str, float], models: Mapping[str, TrainedModel]) -> float:
    """Return the dual's value at prices by resource; infinite where a slice has no feasible allocation."""
    mu = {name: prices.get(name, 0.0) for name in problem.resources}
    # The models reach the other processes by forking; each of those has one thread, as this one has.
    with ProcessPoolExecutor(
        _PROCESSES, multiprocessing.get_context("fork"), _take, (problem, mu, models)
    ) as some:
        least = list(some.map(_least, range(len(problem.slices)), chunksize=8))
    return sum(least) - sum(mu[name] * spec.capacity for name, spec in problem.resources.items() if mu[name] > 0.0)


def inner_minimum(problem: Problem, place: int, mu: Mapping[str, float], model: TrainedModel) -> float:
    """Return the least of (η + μ)·r over what holds one slice's SLA."""
    alone = replace(problem, slices=[problem.slices[place]])
    names = model.header.resource_names
    dearer = torch.tensor([mu[name] for name in names], dtype=torch.float64)
    instance = Instance(alone, model, prices=dearer)
    point = reference.cheapest(instance, LINES, _KEPT, _FINEST)
    if point is None:
        return float("inf")
    given: Tensor = instance.floor + instance.span * point
    return float(given @ instance.unit_cost)


_task = None


def _take(problem: Problem, mu: Mapping[str, float], models: Mapping[str, TrainedModel]) -> None:
    global _task
    torch.set_num_threads(1)
    _task = partial(_with_model, problem, mu, models)


def _with_model(
    problem: Problem, mu: Mapping[str, float], models: Mapping[str, TrainedModel], place: int
) -> float:
    return inner_minimum(problem, place, mu, models[problem.slices[place].model])


def _least(place: int) -> float:
    return _task(place)
