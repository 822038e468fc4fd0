"""The paper's 45 constant settings on one slice model, by the production solver and by its peers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from microopt.messages import Problem
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.microopt import MicroOptSolver
from solver import reference
from solver.instance import Instance
from solver.peers import SETTINGS, Peer
from solver.problems import busier, cost, timed, warmed
from solver.score import Answer, by_peer, middle, model_of, of_solution, summary

QUIETER: Final = 1.0 / 1.02
"""The last interval had 2 % fewer users; its allocation and prices are where a warm start begins."""
_ONCE_MS = 500.0
_REPEATS = 3


def measure(
    settings: Sequence[Problem],
    model: TrainedModel,
    peers: Mapping[str, Peer],
    *,
    lines: int,
    step: Callable[[str], None],
) -> dict[str, Any]:
    """Return what each makes of the settings; all take turns on each, so that all meet the same moments."""
    instances = [Instance(problem, model) for problem in settings]
    cold, warm, floor = [], [], []
    others: dict[str, list[Answer]] = {name: [] for name in peers}
    _warm_up(instances[0], peers)
    for number, instance in enumerate(instances, start=1):
        step(f"setting {number} of {len(instances)}")
        floor.append(_least(instance, lines))
        cold.append(_repeated(lambda one=instance: _cold(one)))
        warm.append(_repeated(lambda one=instance: _warm(one)))
        for name, peer in peers.items():
            others[name].append(_repeated(lambda p=peer, one=instance, n=number: by_peer(p, one, n)))
    return _results(cold, warm, others, floor)


def _results(
    cold: list[Answer], warm: list[Answer], others: dict[str, list[Answer]], floor: list[float]
) -> dict[str, Any]:
    ours, again = summary(cold, floor), summary(warm, floor)
    return {
        "settings": len(floor),
        "gap_median": ours["gap_median"],
        "gap_max": ours["gap_max"],
        "feasible": ours["feasible"],
        "worst_excess": max(one.excess for one in cold),
        "cold_ms_p50": ours["ms_p50"],
        "cold_ms_max": max(one.ms for one in cold),
        "warm_ms_p50": again["ms_p50"],
        "warm_ms_max": max(one.ms for one in warm),
        "warm_gap_median": again["gap_median"],
        "warm_gap_max": again["gap_max"],
        "warm_feasible": again["feasible"],
        "peers": {
            name: {**summary(answers, floor), "settings": SETTINGS[name]} for name, answers in others.items()
        },
    }


def _warm_up(instance: Instance, peers: Mapping[str, Peer]) -> None:
    """Let everyone solve one setting that is not counted: the first call of anything is slower."""
    _warm(instance)
    for peer in peers.values():
        peer(instance, 0)


def _least(instance: Instance, lines: int) -> float:
    point = reference.cheapest(instance, lines)
    return float("inf") if point is None else cost(instance.problem, instance.allocation(point))


def _repeated(answer: Callable[[], Answer]) -> Answer:
    """Return the median of three times, or one where it is long enough to be steady."""
    first = answer()
    if first.ms > _ONCE_MS:
        return first
    return middle([first, *(answer() for _ in range(_REPEATS - 1))])


def _cold(instance: Instance) -> Answer:
    """Return the answer of a solver that has never seen a problem."""
    solution, seconds = timed(MicroOptSolver(), instance.problem, model_of(instance))
    return of_solution(instance, solution, seconds)


def _warm(instance: Instance) -> Answer:
    """Return the answer of the solver that answered for the last interval."""
    solver, models = MicroOptSolver(), model_of(instance)
    last, _ = timed(solver, busier(instance.problem, QUIETER), models)
    solution, seconds = timed(solver, warmed(instance.problem, last), models)
    return of_solution(instance, solution, seconds)
