"""Solvers by name: the token in `microopt.optimize.<name>`."""

from collections.abc import Callable

from microopt.errors import ConfigError
from microopt_optimizer.solver.base import Solver
from microopt_optimizer.solver.microopt import MicroOptSolver
from microopt_optimizer.solver.peak import PeakSolver

SOLVERS: dict[str, Callable[[], Solver]] = {
    MicroOptSolver.name: MicroOptSolver,
    PeakSolver.name: PeakSolver,
}


def create(name: str) -> Solver:
    """Return a new solver.

    Raises:
        ConfigError: there is none of this name; lists those that there are.
    """
    if name not in SOLVERS:
        raise ConfigError(f"optimizer {name!r} is not known here; choose one of {sorted(SOLVERS)}")
    return SOLVERS[name]()
