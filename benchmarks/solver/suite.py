"""Models of synthetic slices with 2, 4 and 8 resources, against the best that anything finds."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from microopt_optimizer.solver.microopt import MicroOptSolver
from solver import reference, synthetic
from solver.instance import Instance
from solver.peers import Peer, cma_es, slsqp
from solver.problems import timed
from solver.score import Answer, by_peer, judged, model_of, of_solution, summary
from solver.sizes import Sizes

RESOURCES: Final = (2, 4, 8)
ATOMS: Final = 4
ONLY_TWO: Final = ("grid",)
"""Peers whose time grows as a power of the number of resources."""


def measure(sizes: Sizes, peers: Mapping[str, Peer], step: Callable[[str], None]) -> dict[str, Any]:
    """Return for each number of resources what each makes of one problem a model."""
    results = {}
    for resources in RESOURCES:
        step(f"{resources} resources, training")
        instances = [_instance(seed, resources, sizes) for seed in range(sizes.models)]
        able = {name: peer for name, peer in peers.items() if resources == 2 or name not in ONLY_TWO}
        results[str(resources)] = _of(resources, instances, able, sizes, step)
    return results


def _instance(seed: int, resources: int, sizes: Sizes) -> Instance:
    model = synthetic.trained(seed, resources, rows=sizes.rows, epochs=sizes.epochs)
    return Instance(synthetic.problem(seed, model, ATOMS), model)


def _of(
    resources: int,
    instances: list[Instance],
    peers: Mapping[str, Peer],
    sizes: Sizes,
    step: Callable[[str], None],
) -> dict[str, Any]:
    ours: list[Answer] = []
    best: list[float] = []
    others: dict[str, list[Answer]] = {name: [] for name in peers}
    for number, instance in enumerate(instances, start=1):
        step(f"{resources} resources, problem {number} of {len(instances)}")
        solution, seconds = timed(MicroOptSolver(), instance.problem, model_of(instance))
        ours.append(of_solution(instance, solution, seconds))
        for name, peer in peers.items():
            others[name].append(by_peer(peer, instance, number))
        known = [ours[-1], *(answers[-1] for answers in others.values()), _thorough(instance, number, sizes)]
        best.append(min((one.cost for one in known if one.is_feasible), default=float("inf")))
    return {
        "problems": len(instances),
        "atoms": ATOMS,
        **summary(ours, best),
        "peers": {name: summary(answers, best) for name, answers in others.items()},
    }


def _thorough(instance: Instance, seed: int, sizes: Sizes) -> Answer:
    """Return the best of many long runs of CMA-ES and SLSQP, and where there are two resources of the grid."""
    found = cma_es.search(instance, 100 + seed, generations=60 * instance.dimension, runs=sizes.long_runs)
    every = [found.best, slsqp.cheapest(instance, 200 + seed, starts=4 * sizes.long_runs)]
    if instance.dimension == 2:
        every.append(reference.cheapest(instance, sizes.lines))
    known = [judged(instance, None if point is None else instance.allocation(point), 0.0) for point in every]
    return min(known, key=lambda one: (not one.is_feasible, one.cost))
