"""No flapping, and no cliff: what shrinks does so in steps, as far as nobody else needs it (ADR 12)."""

from collections.abc import Mapping
from dataclasses import dataclass

from microopt.messages import Problem, SliceProblem, SliceSolution, Values


@dataclass(frozen=True)
class Smooth:
    """What a slice is to have, and how that is other than what was answered."""

    values: Values
    change: str = ""


def smoothed(
    problem: Problem,
    accepted: Mapping[str, SliceSolution],
    *,
    deadband: float,
    shrink_at_most: float,
) -> dict[str, Smooth]:
    """Return what slices are to have: what they have shrinks by less at once; what grows grows as answered.

    A value that is lower by less than `deadband` stays, and none shrinks by more than `shrink_at_most`, both as
    shares of what the slice has. What is kept so comes out of the capacity that the answers leave free, in equal
    shares of what each would keep; where none is free, the answers stand.
    """
    wishes = {
        asked.slice: _kept(asked, accepted[asked.slice].allocation, deadband, shrink_at_most)
        for asked in problem.slices
        if asked.slice in accepted
    }
    shares = {resource: _share(problem, accepted, wishes, resource) for resource in problem.resources}
    return {name: _with(accepted[name], wish, shares) for name, wish in wishes.items()}


def _kept(asked: SliceProblem, answer: Values, deadband: float, shrink_at_most: float) -> dict[str, float]:
    """Return what a slice is to have if there is room for it."""
    found = {}
    for resource, value in answer.items():
        has = min(asked.current.get(resource, value), asked.bounds[resource].ceiling)
        if value >= has:
            found[resource] = value
        elif value >= has * (1.0 - deadband):
            found[resource] = has
        else:
            found[resource] = max(value, has * (1.0 - shrink_at_most))
    return found


def _share(
    problem: Problem,
    accepted: Mapping[str, SliceSolution],
    wishes: Mapping[str, Mapping[str, float]],
    resource: str,
) -> float:
    """Return the share of what all would keep of `resource` that its capacity has room for."""
    room, extra = problem.resources[resource].capacity, 0.0
    for asked in problem.slices:
        if asked.slice not in accepted:  # refused: it goes on having what it has
            room -= asked.current.get(resource, 0.0)
            continue
        value = accepted[asked.slice].allocation.get(resource, 0.0)
        room -= value
        extra += wishes[asked.slice].get(resource, value) - value
    return min(1.0, max(0.0, room) / extra) if extra > 0.0 else 0.0


def _with(answer: SliceSolution, wish: Mapping[str, float], shares: Mapping[str, float]) -> Smooth:
    values, said = dict(answer.allocation), []
    for resource, value in answer.allocation.items():
        kept = value + shares[resource] * (wish[resource] - value)
        if kept > value:
            values[resource] = kept
            said.append(f"{resource} {kept:.4g} instead of {value:.4g}")
    if not said:
        return Smooth(answer.allocation)
    return Smooth(values, f"shrinks in steps: {', '.join(said)}")
