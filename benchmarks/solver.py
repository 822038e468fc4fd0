"""What `microopt` finds and how long it takes, beside brute force on a grid over the same slice model."""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from statistics import NormalDist, fmean, median
from typing import Final

import msgspec
import torch
from msgspec.structs import replace

from microopt.messages import Interval, Problem, SliceProblem, Solution, Traffic
from microopt.specs import Bounds, ResourceSpec, Sla
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.microopt import MicroOptSolver

USERS: Final = (1.0, 2.0, 3.0, 4.0, 5.0)
QOS_MBPS: Final = (3.0, 4.0, 5.0)
BETA: Final = (0.1, 0.2, 0.3)
BOUNDS: Final = {"transport_bandwidth": Bounds(5.0, 50.0), "gnb_cpu": Bounds(500.0, 4500.0)}
WEIGHTS: Final = {"transport_bandwidth": 1 / 50, "gnb_cpu": 1 / 4500}
UNITS: Final = {"transport_bandwidth": "Mbit/s", "gnb_cpu": "millicores"}
GRID: Final = 600
ATOMS: Final = 50
SPREAD_USERS: Final = 0.8
SCARCE_SHARE: Final = 0.98
"""Of the bandwidth that both slices would take if they were alone; with much less, no CPU could make up for it."""
_AMPLE: Final = 1e6


class Results(msgspec.Struct, frozen=True):
    """Times are medians; costs are means over the settings that both ways can meet."""

    microopt_ms_p50: float
    grid_ms_p50: float
    """In float64, as `microopt` calculates."""
    grid_float32_ms_p50: float
    mean_cost: float
    grid_mean_cost: float
    worst_cost_ratio: float
    """Of `microopt` to the grid in float64, in the setting where it does worst."""
    settings: int
    infeasible: int
    grid_infeasible: int
    pairs: int
    pair_ms_p50: float
    """Of two slices with `ATOMS` atoms each, in a pool with more than they need."""
    pair_grid_float32_ms_p50: float
    """Of the same slices by the faster grid, one after the other."""
    scarce_pair_ms_p50: float
    scarce_pairs_infeasible: int


@dataclass(frozen=True)
class Answer:
    """The least cost, infinite where there is none, and the time that it took to find."""

    cost: float
    ms: float


@dataclass(frozen=True)
class Setting:
    """One setting, every way."""

    microopt: Answer
    grid: Answer
    grid_float32: Answer

    @property
    def is_met(self) -> bool:
        """Return whether both ways know an allocation that holds the SLA."""
        return math.isfinite(self.microopt.cost) and math.isfinite(self.grid.cost)


@dataclass(frozen=True)
class Pair:
    """Two slices with many atoms each."""

    ample_ms: float
    grid_float32_ms: float
    scarce_ms: float
    is_scarce_met: bool


def measure(model: TrainedModel, *, betas: Sequence[float], pairs: int) -> Results:
    """Return what each way makes of the paper's constant settings, and of pairs of slices.

    Raises:
        ValueError: no setting can be met with this model.
    """
    double, single = Grid(model, torch.float64, 4_096), Grid(model, torch.float32, 16_384)
    settings = _settings(model, double, single, betas)
    met = [one for one in settings if one.is_met]
    if not met:
        raise ValueError("no setting can be met with this model; there is nothing to compare")
    two = [_pair(model, single, number / pairs) for number in range(pairs)]
    return Results(
        microopt_ms_p50=median(one.microopt.ms for one in settings),
        grid_ms_p50=median(one.grid.ms for one in settings),
        grid_float32_ms_p50=median(one.grid_float32.ms for one in settings),
        mean_cost=fmean(one.microopt.cost for one in met),
        grid_mean_cost=fmean(one.grid.cost for one in met),
        worst_cost_ratio=max(one.microopt.cost / one.grid.cost for one in met),
        settings=len(settings),
        infeasible=sum(math.isinf(one.microopt.cost) for one in settings),
        grid_infeasible=sum(math.isinf(one.grid.cost) for one in settings),
        pairs=pairs,
        pair_ms_p50=median(one.ample_ms for one in two),
        pair_grid_float32_ms_p50=median(one.grid_float32_ms for one in two),
        scarce_pair_ms_p50=median(one.scarce_ms for one in two),
        scarce_pairs_infeasible=sum(not one.is_scarce_met for one in two),
    )


def _settings(model: TrainedModel, double: "Grid", single: "Grid", betas: Sequence[float]) -> list[Setting]:
    settings = []
    wanted = list(product(USERS, QOS_MBPS, betas))
    for users, qos, beta in [wanted[0], *wanted]:
        sla = Sla(qos_threshold=qos, degradation_threshold=beta)
        problem = _problem([_slice(1, Traffic((users,), (1.0,)), sla)])
        (asked,) = problem.slices
        solution, ms = _solve(problem, model)
        (found,) = solution.slices
        cost = math.inf if found.status == "infeasible" or found.cost is None else found.cost
        settings.append(Setting(Answer(cost, ms), double.cheapest(asked), single.cheapest(asked)))
    return settings[1:]  # the first call of each way is slower, and comes again


class Grid:
    """Brute force: E(β) at every point of a grid over the bounds, then the cheapest point that holds the SLA.

    `rows` is how many the slice model is given in one call; the fastest number depends on the precision.
    """

    def __init__(self, model: TrainedModel, dtype: torch.dtype, rows: int) -> None:
        names = model.header.resource_names
        axes = [torch.linspace(BOUNDS[n].floor, BOUNDS[n].ceiling, GRID, dtype=dtype) for n in names]
        self._dtype, self._rows = dtype, rows
        self._network = copy.deepcopy(model.network).to(dtype)
        self._points = torch.cartesian_prod(*axes)
        self._cost = self._points @ torch.tensor([WEIGHTS[name] for name in names], dtype=dtype)

    def cheapest(self, asked: SliceProblem) -> Answer:
        """Return the least cost on the grid."""
        began = time.perf_counter()
        users = torch.tensor([asked.traffic.users], dtype=self._dtype)
        weights = torch.tensor([asked.traffic.weights], dtype=self._dtype)
        parts = torch.split(self._points, max(1, self._rows // users.numel()))
        qos = asked.sla.qos_threshold
        with torch.no_grad():
            missed = [expected_degradation(self._network, users, weights, part, qos) for part in parts]
        holds = torch.cat(missed) <= asked.sla.degradation_threshold
        cost = float(torch.where(holds, self._cost, torch.inf).min())
        return Answer(cost, 1e3 * (time.perf_counter() - began))


def _pair(model: TrainedModel, grid: Grid, position: float) -> Pair:
    """Return the times of one pair; `position` in [0, 1) moves one slice's traffic up and the other's down."""
    first = _slice(1, _traffic(1.0 + 3.0 * position), Sla(qos_threshold=4.0, degradation_threshold=0.1))
    second = _slice(2, _traffic(4.0 - 2.0 * position), Sla(qos_threshold=3.0, degradation_threshold=0.2))
    ample = _problem([first, second])
    alone, ample_ms = _solve(ample, model)
    grid_ms = sum(grid.cheapest(one).ms for one in ample.slices)
    together, scarce_ms = _solve(_scarce(ample, alone), model)
    return Pair(ample_ms, grid_ms, scarce_ms, all(one.status != "infeasible" for one in together.slices))


def _scarce(problem: Problem, alone: Solution) -> Problem:
    """Return the problem with less bandwidth than the slices would take, so that more CPU must make up for it."""
    name = "transport_bandwidth"
    taken = sum(one.allocation[name] for one in alone.slices)
    spec = replace(problem.resources[name], capacity=SCARCE_SHARE * taken)
    return replace(problem, resources={**problem.resources, name: spec})


def _solve(problem: Problem, model: TrainedModel) -> tuple[Solution, float]:
    began = time.perf_counter()
    solution = MicroOptSolver().solve(problem, {model.name: model})
    return solution, 1e3 * (time.perf_counter() - began)


def _problem(slices: list[SliceProblem]) -> Problem:
    resources = {n: ResourceSpec(unit=UNITS[n], weight=WEIGHTS[n], capacity=_AMPLE) for n in WEIGHTS}
    interval = Interval(datetime(2026, 1, 1, tzinfo=UTC), 3600.0)
    return Problem(pool="bench", interval=interval, resources=resources, slices=slices, deadline_s=60.0)


def _slice(number: int, traffic: Traffic, sla: Sla) -> SliceProblem:
    return SliceProblem(slice=f"1-{number:06x}", sla=sla, traffic=traffic, bounds=BOUNDS, model="bench")


def _traffic(centre_users: float) -> Traffic:
    """Return equally likely atoms of a normal distribution, none below 0 or above the most users of the model."""
    normal = NormalDist(centre_users, SPREAD_USERS)
    atoms = (normal.inv_cdf((j + 0.5) / ATOMS) for j in range(ATOMS))
    return Traffic(tuple(min(max(x, 0.0), USERS[-1]) for x in atoms), (1.0 / ATOMS,) * ATOMS)
