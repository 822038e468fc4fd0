"""Between answer and allocation: an optimizer that is wrong costs nothing but its turn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from microopt.messages import Problem, SliceProblem, SliceSolution, Solution

RELATIVE_TOLERANCE: Final = 1e-9
"""Rounding that is forgiven at bounds and capacities; what is forgiven is also put right."""


@dataclass(frozen=True)
class Verdict:
    """What of a solution may be used, and why the rest may not."""

    accepted: Mapping[str, SliceSolution]
    refused: Mapping[str, str]
    strangers: tuple[str, ...] = ()
    """Slices that were answered for without having been asked."""


def check(problem: Problem, solution: Solution) -> Verdict:
    """Return which slices' answers keep the bounds, and together the capacities, of `problem`.

    Who answered is not looked at: the server may map a part of an optimizer's requests to another one.
    """
    asked = {s.slice: s for s in problem.slices}
    if trouble := _wrong_address(problem, solution):
        return Verdict({}, dict.fromkeys(asked, trouble))
    answers = {s.slice: s for s in solution.slices}
    if len(answers) != len(solution.slices):
        return Verdict({}, dict.fromkeys(asked, "a slice was answered twice"))
    refused = {name: _wrong_values(asked[name], answers.get(name)) for name in asked}
    accepted = {name: _clamped(asked[name], answers[name]) for name, trouble in refused.items() if not trouble}
    strangers = tuple(sorted(set(answers) - set(asked)))
    if over := _over_capacity(problem, accepted):
        return Verdict({}, {name: refused[name] or over for name in asked}, strangers)
    return Verdict(accepted, {name: trouble for name, trouble in refused.items() if trouble}, strangers)


def _wrong_address(problem: Problem, solution: Solution) -> str:
    if solution.pool != problem.pool or solution.interval != problem.interval:
        return "answered for another pool or interval"
    return ""


def _wrong_values(asked: SliceProblem, answer: SliceSolution | None) -> str:
    if answer is None:
        return "not answered"
    if not answer.allocation and answer.reason:
        return f"not solved: {answer.reason}"
    if set(answer.allocation) != set(asked.bounds):
        return f"allocates {sorted(answer.allocation)}, the slice has {sorted(asked.bounds)}"
    for resource, value in answer.allocation.items():
        bounds = asked.bounds[resource]
        slack = RELATIVE_TOLERANCE * bounds.ceiling
        if not math.isfinite(value) or not bounds.floor - slack <= value <= bounds.ceiling + slack:
            return f"{resource} {value:g} is outside {bounds.floor:g} to {bounds.ceiling:g}"
    if answer.status != "infeasible":
        return _wrong_claim(asked, answer)
    return ""


def _wrong_claim(asked: SliceProblem, answer: SliceSolution) -> str:
    allowed = asked.sla.degradation_threshold
    if answer.expected_degradation is not None and answer.expected_degradation > allowed:
        return f"claims {answer.status} with expected degradation {answer.expected_degradation:.4f} > {allowed:g}"
    return ""


def _clamped(asked: SliceProblem, answer: SliceSolution) -> SliceSolution:
    """Return the answer with the rounding put right: never below a floor or above a ceiling."""
    values = {
        resource: min(max(value, asked.bounds[resource].floor), asked.bounds[resource].ceiling)
        for resource, value in answer.allocation.items()
    }
    return replace(answer, allocation=values)


def _over_capacity(problem: Problem, accepted: Mapping[str, SliceSolution]) -> str:
    """Say which capacity the accepted answers exceed together with what the refused slices go on having."""
    totals: dict[str, float] = {}
    for asked in problem.slices:
        values = accepted[asked.slice].allocation if asked.slice in accepted else asked.current
        for resource, value in values.items():
            totals[resource] = totals.get(resource, 0.0) + value
    for resource, spec in problem.resources.items():
        total = totals.get(resource, 0.0)
        if total > spec.capacity * (1.0 + RELATIVE_TOLERANCE):
            return f"together {total:g} {spec.unit} of {resource}, capacity left is {spec.capacity:g}"
    return ""
