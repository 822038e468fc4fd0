"""CMA-ES (pycma), with an exact penalty and a population evaluated in one call."""

import cma
import numpy as np
import torch
from torch import Tensor

from solver.instance import Instance
from solver.peers.search import Search, scattered

_SCREEN = 64
_PENALTY = 3.0
SETTINGS = (
    "pycma; 64 Sobol points, then from the best one: sigma 0.3, population 8 + 4 K, up to 30 + 35 K generations "
    "(tolfun 1e-6), exact penalty of 3 times the excess of E, points clipped to the bounds with their distance as "
    "penalty. Tried beside it: populations of 6 to 24, 20 to 200 generations, penalties of 1 and 10, ranking, "
    "pycma's augmented Lagrangian, two and three runs, sigma 0.1, 0.2 and 0.4, 16 and 256 Sobol points."
)
SHORT_SETTINGS = "As cma_es with sigma 0.2, cut off after 15 K generations: about half of the time, not converged."


def cheapest(instance: Instance, seed: int) -> Tensor | None:
    """Return the best point of one run to convergence."""
    return search(instance, seed, generations=30 + 35 * instance.dimension).best


def cheapest_in_half_the_time(instance: Instance, seed: int) -> Tensor | None:
    """Return the best point of a run that is cut off before it has converged."""
    return search(instance, seed, generations=15 * instance.dimension, sigma=0.2).best


def search(instance: Instance, seed: int, *, generations: int, sigma: float = 0.3, runs: int = 1) -> Search:
    """Return everything learnt in some runs, each from the best point so far of fresh Sobol points."""
    found = Search(instance)
    for run in range(runs):
        start = _start(found, seed + 7919 * run)
        options = {
            "popsize": 8 + 4 * instance.dimension,
            "seed": seed + 7919 * run,
            "maxiter": generations,
            "tolx": 1e-5,
            "tolfun": 1e-6,
            "verbose": -9,
            "verb_log": 0,
        }
        evolution = cma.CMAEvolutionStrategy(start.numpy(), sigma, options)
        while not evolution.stop():
            asked = np.array(evolution.ask())
            inside = np.clip(asked, 0.0, 1.0)
            cost, excess = found.look(torch.from_numpy(inside))
            outside = ((asked - inside) ** 2).sum(1)
            evolution.tell(list(asked), list(cost.numpy() + _PENALTY * excess.clamp(min=0.0).numpy() + outside))
    return found


def _start(found: Search, seed: int) -> Tensor:
    """Return the best of fresh Sobol points, feasible or nearly so."""
    points = scattered(found.instance.dimension, _SCREEN, seed)
    cost, excess = found.look(points)
    return points[(cost + _PENALTY * excess.clamp(min=0.0)).argmin()]
