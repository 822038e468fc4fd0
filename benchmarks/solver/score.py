"""What is kept of each answer, and how answers are summed up."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from microopt_optimizer.slice_model.model_file import TrainedModel
from solver import problems
from solver.instance import Instance
from solver.peers import Peer


@dataclass(frozen=True)
class Answer:
    """A cost, infinite where there is no allocation; by how much E(β) is above β; and the time it took."""

    cost: float
    excess: float
    ms: float

    @property
    def is_feasible(self) -> bool:
        """Return whether it holds the SLA, strictly judged."""
        return math.isfinite(self.cost) and self.excess <= 0.0


def judged(instance: Instance, allocation: Mapping[str, float] | None, ms: float) -> Answer:
    """Return what an allocation is worth, by the model itself and not by who found it."""
    if allocation is None:
        return Answer(math.inf, math.inf, ms)
    excess = problems.excess(instance.asked, instance.model, allocation)
    return Answer(problems.cost(instance.problem, allocation), excess, ms)


def by_peer(peer: Peer, instance: Instance, seed: int) -> Answer:
    """Return a peer's answer."""
    began = time.perf_counter()
    point = peer(instance, seed)
    ms = 1e3 * (time.perf_counter() - began)
    return judged(instance, None if point is None else instance.allocation(point), ms)


def of_solution(instance: Instance, solution: problems.Solution, seconds: float) -> Answer:
    """Return the answer that a solution has for the one slice of an instance."""
    (found,) = solution.slices
    return judged(instance, None if found.status == "infeasible" else found.allocation, 1e3 * seconds)


def summary(answers: Sequence[Answer], best: Sequence[float]) -> dict[str, float | int | None]:
    """Return medians and counts; gaps are cost over the best less 1, of the feasible answers."""
    gaps = [
        one.cost / least - 1.0
        for one, least in zip(answers, best, strict=True)
        if one.is_feasible and math.isfinite(least)
    ]
    return {
        "ms_p50": median(one.ms for one in answers),
        "gap_median": median(gaps) if gaps else None,
        "gap_max": max(gaps) if gaps else None,
        "feasible": len(gaps),
    }


def middle(answers: Sequence[Answer]) -> Answer:
    """Return one answer for repeated ones: the dearest, with the median of the times."""
    worst = max(answers, key=lambda one: (not one.is_feasible, one.cost))
    return Answer(worst.cost, worst.excess, median(one.ms for one in answers))


def model_of(instance: Instance) -> dict[str, TrainedModel]:
    """Return what a solver is given beside the problem."""
    return {instance.asked.model: instance.model}
