"""Figures that several reports share: costs by weights, quantiles, and questions and replies as they were kept."""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from microopt.messages import Answer, Asked, Problem, SliceSolution, Traffic, Values


class SliceAsked(Struct, frozen=True):
    """What was asked of one slice: the degradation threshold, and the resources that an answer needs."""

    degradation_threshold: float
    resources: frozenset[str]


class Question(Struct, frozen=True, kw_only=True):
    """What reports need of an `Asked`: a pool's problem without its traffic. `weights` are the problem's η."""

    problem: str
    active: str
    asked: tuple[str, ...]
    at: float
    epoch: int
    weights: Values
    slices: dict[str, SliceAsked]


class Reply(Struct, frozen=True, kw_only=True):
    """What reports need of an `Answer` to a question.

    `costs` are recomputed, of the slices that were answered whole and not refused. `expected` is the slice model's
    word on the allocations, where it has one.
    """

    problem: str
    optimizer: str
    role: str
    latency_s: float
    failed: bool
    refused: int
    costs: dict[str, float]
    expected: dict[str, float]


def cost_of(allocation: Values, weights: Mapping[str, float]) -> float:
    """Return Σ η·r; a resource without a weight is a KeyError, as no cost would be true."""
    return math.fsum(weights[resource] * value for resource, value in sorted(allocation.items()))


def weights_of(problem: Problem) -> dict[str, float]:
    """Return the weight η of each resource of a problem."""
    return {name: resource.weight for name, resource in problem.resources.items()}


def solution_cost(slices: Iterable[SliceSolution], weights: Mapping[str, float]) -> float:
    """Return the cost of all answered allocations; resources that the pool does not have cost nothing."""
    return math.fsum(
        weights.get(resource, 0.0) * value for one in slices for resource, value in one.allocation.items()
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the least value that at least `share` of all do not exceed, or None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def users_quantile(traffic: Traffic, share: float) -> float:
    """Return the least number of users that a slot does not exceed with probability `share`."""
    total, atoms = 0.0, sorted(zip(traffic.users, traffic.weights, strict=True))
    for users, weight in atoms:
        total += weight
        if total >= share - 1e-9:
            return users
    return atoms[-1][0]


def question(asked: Asked) -> Question:
    """Return what reports need of an `Asked`."""
    problem = asked.problem
    return Question(
        problem=problem.id,
        active=asked.active,
        asked=(asked.active, *asked.others, *asked.shadows),
        at=asked.at.timestamp(),
        epoch=asked.epoch,
        weights=weights_of(problem),
        slices={
            one.slice: SliceAsked(one.sla.degradation_threshold, frozenset(one.bounds)) for one in problem.slices
        },
    )


def reply(answer: Answer, asked: Question) -> Reply:
    """Return what reports need of an `Answer` to `asked`; slices that were not asked for do not count."""
    slices = answer.solution.slices if answer.solution else []
    costs = {
        one.slice: cost_of(one.allocation, asked.weights)
        for one in slices
        if one.slice in asked.slices
        and one.slice not in answer.refused
        and set(one.allocation) == asked.slices[one.slice].resources
    }
    return Reply(
        problem=answer.problem,
        optimizer=answer.optimizer,
        role=answer.role,
        latency_s=answer.latency_s,
        failed=answer.solution is None,
        refused=len(answer.refused),
        costs=costs,
        expected={
            check.slice: check.expected_degradation
            for check in answer.checks
            if check.expected_degradation is not None
        },
    )
