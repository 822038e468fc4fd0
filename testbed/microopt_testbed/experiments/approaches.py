"""Every approach that is compared: how it is called, what it is given, and what is made of its answer."""

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from microopt.errors import ConfigError
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.registry import create
from microopt_testbed.experiments import oracle, problem
from microopt_testbed.experiments.fingerprint import code_digest
from microopt_testbed.experiments.oracle import Oracle
from microopt_testbed.experiments.settings import BOUNDS, ORACLE, WEIGHTS, Setting
from microopt_testbed.experiments.store import Outcome

LABELS: Final = {
    "oracle": "Oracle",
    "microopt": "MicroOpt",
    "microopt-paper": "MicroOpt, Algorithm 1",
    "microopt-0sigma": "MicroOpt-0σ",
    "microopt-2sigma": "MicroOpt-2σ",
    "atlas": "Atlas",
    "atlas-plus": "Atlas⁺",
    "cadrl": "CaDRL",
    "cadrl-plus": "CaDRL⁺",
    "peak": "Peak-alloc",
}

DEADLINE_S: Final = 120.0
"""A setting and approach: more than any needs on one core, so that none is cut short."""


@dataclass(frozen=True)
class Available:
    """The approaches that can be run, each with the digest of its code; and why others cannot."""

    code: dict[str, str]
    missing: dict[str, str]

    def __contains__(self, approach: str) -> bool:
        return approach in self.code


def available(wanted: tuple[str, ...]) -> Available:
    """Find out which of the wanted solvers are there; the oracle always is."""
    code, missing = {ORACLE: code_digest(oracle.__name__)}, {}
    for name in wanted:
        try:
            solver = create(name)
        except ConfigError as error:
            missing[name] = str(error)
        else:
            code[name] = code_digest(type(solver).__module__) + code_digest(problem.__name__)
    return Available(code, missing)


def run(approach: str, setting: Setting, model_path: Path, grid_points: int) -> Outcome:
    """Let one approach solve one setting; `grid_points` is for the oracle.

    Raises:
        MicrooptError: the approach cannot be run, or not on this model.
    """
    if approach == ORACLE:
        return _ask_oracle(setting, model_path, grid_points)
    model = _model(model_path)
    solution = create(approach).solve(problem.as_problem(setting, DEADLINE_S), {problem.MODEL: model})
    (answer,) = solution.slices
    return Outcome(
        approach=approach,
        setting=setting,
        allocation=answer.allocation,
        cost=cost(answer.allocation),
        expected_degradation=degradation(model, setting, answer.allocation),
        status=answer.status,
        solve_s=solution.solve_s,
        reason=answer.reason,
    )


def cost(allocation: dict[str, float]) -> float:
    """Return the normalised allocation η·r."""
    return sum(WEIGHTS[name] * value for name, value in allocation.items())


def degradation(model: TrainedModel, setting: Setting, allocation: dict[str, float]) -> float:
    """Return E(β) of an allocation on a model, under the setting's traffic."""
    values = torch.tensor([allocation[name] for name in model.header.resource_names], dtype=torch.float64)
    users, weights = (torch.tensor(part, dtype=torch.float64) for part in (setting.users, setting.weights))
    with torch.no_grad():
        return float(expected_degradation(model, users, weights, values, setting.qos_threshold))


def _ask_oracle(setting: Setting, model_path: Path, grid_points: int) -> Outcome:
    began = time.perf_counter()
    found = _oracle(model_path, grid_points).cheapest(setting)
    allocation = found or {name: bounds.ceiling for name, bounds in BOUNDS.items()}
    return Outcome(
        approach=ORACLE,
        setting=setting,
        allocation=allocation,
        cost=cost(allocation),
        expected_degradation=degradation(_model(model_path), setting, allocation),
        status="feasible" if found else "infeasible",
        solve_s=time.perf_counter() - began,
        reason="" if found else "no grid point within the bounds holds the SLA; these are the ceilings",
    )


@lru_cache(maxsize=2)
def _model(path: Path) -> TrainedModel:
    return model_file.load(path, problem.MODEL)


@lru_cache(maxsize=1)
def _oracle(path: Path, grid_points: int) -> Oracle:
    return Oracle(_model(path), grid_points)
