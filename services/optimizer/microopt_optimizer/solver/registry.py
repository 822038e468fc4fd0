"""Solvers by name: the token in `microopt.optimize.<name>`."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from microopt.errors import ConfigError
from microopt_optimizer.solver.base import Solver

_PACKAGE = "microopt_optimizer"

SOLVERS: Mapping[str, str] = MappingProxyType(
    {
        "microopt": "solver.microopt:MicroOptSolver",
        "microopt-paper": "baselines.paper:PaperSolver",
        "microopt-0sigma": "baselines.scalar:ZeroSigmaSolver",
        "microopt-2sigma": "baselines.scalar:TwoSigmaSolver",
        "atlas": "baselines.atlas:AtlasSolver",
        "atlas-plus": "baselines.atlas:AtlasPlusSolver",
        "cadrl": "baselines.cadrl.solver:CadrlSolver",
        "cadrl-plus": "baselines.cadrl.solver:CadrlPlusSolver",
        "peak": "baselines.peak:PeakSolver",
    }
)
"""Where each is, below this package: a baseline's own packages are imported only when it is asked for."""


def create(name: str) -> Solver:
    """Return a new solver.

    Raises:
        ConfigError: there is none of this name (lists those that there are), or its packages are not installed.
    """
    if name not in SOLVERS:
        raise ConfigError(f"optimizer {name!r} is not known here; choose one of {sorted(SOLVERS)}")
    module, _, kind = SOLVERS[name].partition(":")
    try:
        made: Solver = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), kind)()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"optimizer {name!r} needs {error.name}, which is not installed: pip install 'microopt[baselines]'"
        ) from error
    return made
