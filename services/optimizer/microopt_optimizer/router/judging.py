"""What the slice models say, held against what optimizers claim: nobody is believed on his own feasibility."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from msgspec.structs import replace as changed

from microopt.messages import Problem, SliceCheck, SliceSolution, Values
from microopt_optimizer.router.guard import Verdict

Policy = Literal["required", "if-possible", "off"]
Envelope = Literal["say", "refuse"]

SLACK: Final = 1e-6
"""Rounding of an expected degradation that is forgiven."""


def holds(check: SliceCheck | None, allowed: float) -> bool:
    """Return whether the slice model says that an expected degradation of `allowed` is kept."""
    return (
        check is not None
        and check.expected_degradation is not None
        and check.expected_degradation <= allowed + SLACK
    )


def judged(
    problem: Problem, verdict: Verdict, checks: Mapping[str, SliceCheck], policy: Policy, envelope: Envelope
) -> Verdict:
    """Return the verdict less what the slice models contradict; what they say takes the claim's place."""
    allowed = {one.slice: one.sla.degradation_threshold for one in problem.slices}
    accepted: dict[str, SliceSolution] = {}
    refused = dict(verdict.refused)
    for name, answer in verdict.accepted.items():
        check = checks.get(name)
        if trouble := _trouble(answer, check, allowed[name], policy, envelope):
            refused[name] = trouble
        elif check is None or check.expected_degradation is None:
            accepted[name] = answer
        else:
            accepted[name] = changed(answer, expected_degradation=check.expected_degradation)
    return replace(verdict, accepted=accepted, refused=refused)


def _trouble(
    answer: SliceSolution, check: SliceCheck | None, allowed: float, policy: Policy, envelope: Envelope
) -> str:
    if check is None or check.expected_degradation is None:
        why = check.error if check and check.error else "no slice model was asked"
        return f"cannot be checked: {why}" if policy == "required" else ""
    if envelope == "refuse" and check.outside:
        return f"outside of what the slice model was trained on: {check.outside}"
    if answer.status != "infeasible" and not holds(check, allowed):
        return (
            f"claims {answer.status}, but the slice model expects degradation {check.expected_degradation:.4f} "
            f"> {allowed:g} there"
        )
    return ""


def room_for(problem: Problem, chosen: Mapping[str, Values]) -> dict[str, Values]:
    """Return for each slice the most that it could have beside what the others are to have."""
    free = {name: spec.capacity for name, spec in problem.resources.items()}
    for one in problem.slices:
        for resource, value in chosen.get(one.slice, one.current).items():
            if resource in free:
                free[resource] -= value
    found: dict[str, Values] = {}
    for one in problem.slices:
        has = chosen.get(one.slice, one.current)
        found[one.slice] = {
            resource: min(bounds.ceiling, max(bounds.floor, has.get(resource, 0.0) + max(0.0, free[resource])))
            for resource, bounds in one.bounds.items()
        }
    return found


def false_alarm(answer: SliceSolution, check: SliceCheck | None, allowed: float, room: Values) -> str:
    """Say why an answer that declares its SLA infeasible is wrong: with what is free it could be held."""
    if answer.status != "infeasible" or not holds(check, allowed) or room == answer.allocation:
        return ""
    values = ", ".join(f"{resource} {value:g}" for resource, value in sorted(room.items()))
    return f"declares the SLA infeasible, but {values} are free and hold it"
