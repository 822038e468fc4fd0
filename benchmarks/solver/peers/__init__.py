"""Other ways to solve one slice's problem, each a function of an instance and a seed; all see the same functions.

`SETTINGS` says how each is used. It names what else was tried on the 45 settings, or on some of them.
"""

from collections.abc import Callable

from torch import Tensor

from solver.instance import Instance
from solver.peers import cma_es, grid, microopt_paper, scbo, slsqp

Peer = Callable[[Instance, int], Tensor | None]
"""The cheapest feasible point [K] that it found, if any."""

PEERS: dict[str, Peer] = {
    "cma_es": cma_es.cheapest,
    "cma_es_short": cma_es.cheapest_in_half_the_time,
    "slsqp": slsqp.cheapest,
    "scbo": scbo.cheapest,
    "grid": grid.cheapest,
    "microopt_paper": microopt_paper.cheapest,
}

SETTINGS = {
    "cma_es": cma_es.SETTINGS,
    "cma_es_short": cma_es.SHORT_SETTINGS,
    "slsqp": slsqp.SETTINGS,
    "scbo": scbo.SETTINGS,
    "grid": grid.SETTINGS,
    "microopt_paper": microopt_paper.SETTINGS,
}
