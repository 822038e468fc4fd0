"""A pool of many slices with models of their own and too little bandwidth: time, memory and a certificate."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
import torch
from msgspec.structs import replace

from microopt.messages import Problem, Solution
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.microopt import MicroOptSolver
from solver import problems, stack, synthetic
from solver.certificate import cost_bound
from solver.sizes import Sizes

ATOMS: Final = 8
SCARCE: Final = "transport_bandwidth"
BUSIER: Final = 1.02
"""In the second interval every slice has 2 % more users; it begins with the first one's allocations and prices."""
CERTIFIED: Final = 1_000
"""Pools of more slices are not certified by the grid: it would take as long as all else together."""
_SEED = 11
_VALUES = 200


def measure(sizes: Sizes, folder: Path, step: Callable[[str], None]) -> dict[str, Any]:
    """Return the pool of `CERTIFIED` slices (or the largest below), and how cost grows with their number.

    `folder` keeps the models for the next time.
    """
    step(f"training {sizes.stacked} slice models")
    weights = stack.weights(folder, sizes.stacked, sizes.steps)
    growth = [_pool(slices, weights, sizes, step) for slices in sizes.pools]
    main = max((one for one in growth if one["slices"] <= CERTIFIED), key=lambda one: int(one["slices"]))
    about = {
        "atoms": ATOMS,
        "threads": sizes.threads,
        "trained_models": sizes.stacked,
        "warm_users_factor": BUSIER,
    }
    return {**main, **about, "growth": growth}


def _pool(slices: int, weights: Path, sizes: Sizes, step: Callable[[str], None]) -> dict[str, Any]:
    step(f"{slices} slices: what they would take, and what they need")
    models = stack.models(weights, slices)
    first, about = scarce(models)
    second = problems.busier(first, BUSIER)
    step(f"{slices} slices: solving")
    taken, cold, warm = _solved(first, second, weights, sizes)
    step(f"{slices} slices: certifying")
    before, after = _quality(first, cold, models), _quality(second, warm, models)
    return {
        "slices": slices,
        **taken,
        **after,
        "cold_gap_to_dual_bound": before["gap_to_dual_bound"],
        "cold_gap_to_own_bound": before["gap_to_own_bound"],
        "cold_feasible": before["feasible"],
        **about,
    }


def scarce(models: dict[str, TrainedModel]) -> tuple[Problem, dict[str, float]]:
    """Return the slices in a pool with half of the way from the least bandwidth to what they would like."""
    rng = np.random.default_rng(_SEED)
    slices = [synthetic.asked(rng, number, model, ATOMS) for number, model in enumerate(models.values(), start=1)]
    resources = synthetic.resource_specs(2)
    ample = problems.pool(slices, resources)
    alone = MicroOptSolver().solve(ample, models)
    wanted = sum(one.allocation[SCARCE] for one in alone.slices)
    needed = sum(_least(one, models[one.model]) for one in slices)
    capacity = 0.5 * (wanted + needed)
    short = replace(ample, resources={**resources, SCARCE: replace(resources[SCARCE], capacity=capacity)})
    return short, {"bandwidth_wanted": wanted, "bandwidth_needed": needed, "bandwidth_capacity": capacity}


def _least(one: problems.SliceProblem, model: TrainedModel) -> float:
    """Return the least bandwidth that holds the SLA when everything else is at its ceiling."""
    column = model.header.resource_names.index(SCARCE)
    low, high = one.bounds[SCARCE].floor, one.bounds[SCARCE].ceiling
    ceilings = torch.tensor([one.bounds[name].ceiling for name in model.header.resource_names]).double()
    for _ in range(2):
        values = torch.linspace(low, high, _VALUES, dtype=torch.float64)
        points = ceilings.repeat(_VALUES, 1)
        points[:, column] = values
        holds = problems.degradations(one, model, points) <= one.sla.degradation_threshold
        if not bool(holds.any()):
            return high
        first = int(holds.to(torch.int8).argmax())
        low, high = float(values[max(0, first - 1)]), float(values[first])
    return high


def _solved(
    first: Problem, second: Problem, weights: Path, sizes: Sizes
) -> tuple[dict[str, Any], Solution, Solution]:
    """Return times and memory of a process that does nothing but solve, and its answers to both intervals."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "first.json").write_bytes(msgspec.json.encode(first))
        (folder / "second.json").write_bytes(msgspec.json.encode(second))
        here = Path(__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
        environment.pop("OMP_NUM_THREADS", None)
        repeats = sizes.repeats if len(first.slices) <= CERTIFIED else 1
        command = [sys.executable, "-m", "solver.joint_process", str(folder), str(weights)]
        command += [str(repeats), str(sizes.threads)]
        subprocess.run(command, env=environment, check=True)
        taken = json.loads((folder / "taken.json").read_bytes())
        answers = [
            msgspec.json.decode((folder / f"{one}.json").read_bytes(), type=Solution) for one in ("cold", "warm")
        ]
    return taken, answers[0], answers[1]


def _quality(problem: Problem, solution: Solution, models: dict[str, TrainedModel]) -> dict[str, Any]:
    """Return what an answer is worth, by the models and a grid alone."""
    pairs = list(zip(problem.slices, solution.slices, strict=True))
    excess = [problems.excess(one, models[one.model], found.allocation) for one, found in pairs]
    cost = sum(problems.cost(problem, found.allocation) for found in solution.slices)
    used = sum(found.allocation[SCARCE] for found in solution.slices)
    bound = cost_bound(problem, solution.capacity_prices, models) if len(pairs) <= CERTIFIED else None
    claimed = solution.cost_bound
    return {
        "feasible": sum(one <= 0.0 for one in excess),
        "worst_excess": max(excess),
        "within_capacity": used <= problem.resources[SCARCE].capacity,
        "cost": cost,
        "gap_to_dual_bound": None if bound is None else (cost - bound) / cost,
        "gap_to_own_bound": None if claimed is None else (cost - claimed) / cost,
        "bandwidth_price": solution.capacity_prices.get(SCARCE, 0.0),
    }
