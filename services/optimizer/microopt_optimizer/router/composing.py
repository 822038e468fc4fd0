"""One allocation for each slice out of several optimizers' answers, which together keep the capacities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from microopt.messages import Problem, SliceSolution
from microopt_optimizer.router.guard import RELATIVE_TOLERANCE, Verdict


@dataclass
class Composed:
    """Whose answer each slice takes, which could take none, and which did not take the one that it should."""

    answers: dict[str, SliceSolution] = field(default_factory=dict)
    optimizers: dict[str, str] = field(default_factory=dict)
    reverted: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def take(self, slice_: str, optimizer: str, answer: SliceSolution) -> None:
        """Give a slice an optimizer's answer."""
        self.answers[slice_], self.optimizers[slice_] = answer, optimizer

    def leave(self, slice_: str, why: str) -> None:
        """Take a slice's answer away: it goes on having what it has."""
        self.answers.pop(slice_, None)
        self.optimizers.pop(slice_, None)
        self.refused[slice_] = why


def composed(
    problem: Problem, wanted: Mapping[str, str], verdicts: Mapping[str, Verdict], order: Sequence[str]
) -> Composed:
    """Return for each slice in `wanted` the answer that it is routed to, else the first in `order`.

    Answers that fit one by one need not fit together. Then slices go back to an answer that comes earlier in
    `order`, or to what they have, those first that free most of what is short.
    """
    found = Composed()
    for one in problem.slices:
        name = one.slice
        if name not in wanted:
            continue  # it goes on having what it has
        chain = list(dict.fromkeys([wanted[name], *order]))
        taken = next((o for o in chain if o in verdicts and name in verdicts[o].accepted), None)
        if taken is None:
            why = [f"{o}: {verdicts[o].refused.get(name, 'not answered')}" for o in chain if o in verdicts]
            found.refused[name] = "; ".join(why)
            continue
        found.take(name, taken, verdicts[taken].accepted[name])
        if taken != wanted[name]:
            found.reverted[name] = _why_not(wanted[name], verdicts, name)
    while short := _short(problem, found):
        if not (_revert_one(problem, found, verdicts, order, short) or _leave_one(problem, found, short)):
            break  # nothing grows: a capacity was lowered, and the answers come nearer to it
    return found


def _why_not(optimizer: str, verdicts: Mapping[str, Verdict], slice_: str) -> str:
    if optimizer not in verdicts:
        return f"{optimizer} did not answer"
    return f"{optimizer}: {verdicts[optimizer].refused.get(slice_, 'not answered')}"


def _short(problem: Problem, found: Composed) -> str:
    """Return a resource of which more is given than there is, or nothing."""
    totals = dict.fromkeys(problem.resources, 0.0)
    for one in problem.slices:
        values = found.answers[one.slice].allocation if one.slice in found.answers else one.current
        for resource, value in values.items():
            if resource in totals:
                totals[resource] += value
    for resource, spec in problem.resources.items():
        if totals[resource] > spec.capacity * (1.0 + RELATIVE_TOLERANCE):
            return resource
    return ""


def _revert_one(
    problem: Problem, found: Composed, verdicts: Mapping[str, Verdict], order: Sequence[str], short: str
) -> bool:
    """Give one slice an answer that comes earlier in `order` and takes less of what is short."""
    best: tuple[float, str, str] | None = None
    for name, optimizer in found.optimizers.items():
        now = found.answers[name].allocation.get(short, 0.0)
        earlier = order[: order.index(optimizer)] if optimizer in order else order
        for other in earlier:
            answer = verdicts[other].accepted.get(name) if other in verdicts else None
            gain = now - answer.allocation.get(short, 0.0) if answer else 0.0
            if gain > 0.0 and (best is None or gain > best[0]):
                best = (gain, name, other)
    if best is None:
        return False
    _, name, other = best
    found.reverted[name] = (
        f"{found.optimizers[name]}: together with the other slices' answers it exceeds the capacity of {short}"
    )
    found.take(name, other, verdicts[other].accepted[name])
    return True


def _leave_one(problem: Problem, found: Composed, short: str) -> bool:
    """Let the slice of the lowest priority that would grow most in what is short keep what it has."""
    growing = [
        (one.priority, -growth, one.slice)
        for one in problem.slices
        if one.slice in found.answers
        and (growth := found.answers[one.slice].allocation.get(short, 0.0) - one.current.get(short, 0.0)) > 0.0
    ]
    if not growing:
        return False
    name = min(growing)[2]
    found.leave(
        name, f"{found.optimizers[name]}: with the other slices' answers it exceeds the capacity of {short}"
    )
    return True
