"""Atlas (reference 26 of the paper, §VI-A2): Bayesian optimisation with a Bayesian neural network."""

import threading
from dataclasses import replace
from typing import Annotated

import torch
from msgspec import Meta, Struct
from torch import Tensor
from torch.quasirandom import SobolEngine

from microopt.messages import Problem, SliceProblem, Solution
from microopt_optimizer.baselines.atlas_network import BayesianNetwork, NetworkSettings
from microopt_optimizer.baselines.independent import IndependentSolver, Wanted
from microopt_optimizer.baselines.model_batch import ModelBatch, model_batches
from microopt_optimizer.solver.base import Clock, Models
from microopt_optimizer.solver.pool import Pool

_Count = Annotated[int, Meta(ge=1)]
_Positive = Annotated[float, Meta(gt=0.0)]
_NotNegative = Annotated[float, Meta(ge=0.0)]

# Pyro and torch's seed are the process's.
_ONE_AT_A_TIME = threading.Lock()


class AtlasSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hyper-parameters of Atlas.

    Costs are shares of that of the slice's whole bounds. In a round `samples` functions are drawn (parallel
    Thompson sampling), and each picks one of `candidates` points to query: half anywhere in the bounds, half
    around the best point so far, at up to `radius` of the bounds.
    """

    network: NetworkSettings = NetworkSettings()
    pretraining: _Count = 300
    first_steps: _Count = 800
    rounds: _Count = 60
    steps: _Count = 30
    samples: _Count = 16
    candidates: _Count = 4000
    radius: _Positive = 0.2
    price: _NotNegative = 1.0
    """λ to begin with"""
    price_step: _Positive = 1.0
    """α: λ ← [λ + α(β − β_thresh)]^+"""
    penalty: _NotNegative = 8.0
    """ρ of the augmented Lagrangian; 0 is the plain one"""
    least: Annotated[float, Meta(gt=0.0, lt=0.5)] = 1e-3
    """The network learns the logit of E(β), of what is between this and one less this."""
    seed: Annotated[int, Meta(ge=0)] = 0


class AtlasSolver(IndependentSolver):
    """Optimises each slice for the largest number of users that its forecast holds possible, as if constant.

    Returned is the cheapest point that was queried and holds the SLA at that traffic, else the least degraded.
    """

    name = "atlas"

    def __init__(self, settings: AtlasSettings | None = None) -> None:
        self.settings = settings or AtlasSettings()

    def solve(self, problem: Problem, models: Models) -> Solution:
        """Return an allocation for every slice; see `Solver`."""
        with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
            return super().solve(problem, models)

    def wanted(self, pool: Pool, one: SliceProblem, clock: Clock) -> Wanted:
        """Return the best allocation queried, and why it is not enough if it is not."""
        search = _Search(self.traffic(_batch_of(pool, one)), self.settings)
        search.run(clock)
        point, degradation = search.best()
        allocation = search.batch.allocations(point.view(1, 1, -1)).flatten().tolist()
        names = search.batch.model.header.resource_names
        reason = ""
        if degradation > one.sla.degradation_threshold:
            reason = (
                f"slice {one.slice}: none of the {search.queries} allocations tried keeps it within degradation "
                f"{one.sla.degradation_threshold:g}; the least is {degradation:.4g}"
            )
        return Wanted(dict(zip(names, allocation, strict=True)), reason)

    def traffic(self, batch: ModelBatch) -> ModelBatch:
        """Return the batch with the traffic that is planned for: the peak."""
        peak = torch.where(batch.weights > 0.0, batch.users, 0.0).amax(-1, keepdim=True)
        return replace(batch, users=peak, weights=torch.ones_like(peak))


class AtlasPlusSolver(AtlasSolver):
    """Atlas with the slice model queried for the forecast's whole distribution of users."""

    name = "atlas-plus"

    def traffic(self, batch: ModelBatch) -> ModelBatch:
        """Return the batch as it is."""
        return batch


class _Search:
    """Bayesian optimisation of one slice; points are of the unit cube, [n, K]."""

    def __init__(self, batch: ModelBatch, settings: AtlasSettings) -> None:
        self.batch = batch
        self._settings = settings
        self._cost = batch.units()[0]
        self._threshold = float(batch.threshold[0])
        resources = self._cost.shape[0]
        torch.manual_seed(settings.seed)
        self._network = BayesianNetwork(resources, settings.network)
        spread = SobolEngine(resources, scramble=True, seed=settings.seed)  # type: ignore[no-untyped-call]
        # The ceilings among them: if they are not enough, nothing may be.
        first = torch.cat([torch.ones(1, resources), spread.draw(settings.pretraining - 1)]).double()
        self._points = first[:0]
        self._degradation = self._points.new_zeros(0)
        self._query(first)
        self._price = settings.price

    @property
    def queries(self) -> int:
        """Return how often the slice model was asked."""
        return len(self._points)

    def run(self, clock: Clock) -> None:
        """Learn, draw, query and raise or lower λ, until all rounds are done or the clock expires."""
        self._learn(self._settings.first_steps, clock)
        for _ in range(self._settings.rounds):
            if clock.expired:
                break
            queried = self._query(self._chosen())
            step = self._settings.price_step * (float(queried.mean()) - self._threshold)
            self._price = max(0.0, self._price + step)
            self._learn(self._settings.steps, clock)

    def best(self) -> tuple[Tensor, float]:
        """Return the cheapest feasible point [K] and its E(β), or the least degraded."""
        within = self._degradation <= float(self.batch.target[0])
        cost = torch.where(within, self._points @ self._cost, torch.inf)
        index = int(cost.argmin()) if bool(within.any()) else int(self._degradation.argmin())
        return self._points[index], float(self._degradation[index])

    def _query(self, points: Tensor) -> Tensor:
        degradation = self.batch.degradation(points.unsqueeze(0)).squeeze(0)
        self._points = torch.cat([self._points, points])
        self._degradation = torch.cat([self._degradation, degradation])
        return degradation

    def _learn(self, steps: int, clock: Clock) -> None:
        values = torch.logit(self._degradation, eps=self._settings.least)
        self._network.learn(self._points, values, steps, clock)

    def _chosen(self) -> Tensor:
        """Return for each function drawn the candidate of least Lagrangian, [samples, K]."""
        settings = self._settings
        candidates = self._candidates()
        weights = self._network.draw(settings.samples)
        believed = torch.sigmoid(self._network.values(weights, candidates).double())
        lagrangian = candidates @ self._cost + self._penalised(believed - self._threshold)
        index = lagrangian.argmin(1)
        return candidates[torch.arange(settings.samples), index]

    def _candidates(self) -> Tensor:
        shape = (self._settings.samples, self._settings.candidates // 2, len(self._cost))
        anywhere = torch.rand(shape, dtype=torch.float64)
        radius = self._settings.radius * 10.0 ** (-3.0 * torch.rand(*shape[:2], 1, dtype=torch.float64))
        near = self.best()[0] + radius * (2.0 * torch.rand(shape, dtype=torch.float64) - 1.0)
        return torch.cat([anywhere, near.clamp(0.0, 1.0)], dim=1)

    def _penalised(self, violation: Tensor) -> Tensor:
        """Return the constraint's part of the (augmented) Lagrangian."""
        penalty = self._settings.penalty
        if penalty == 0.0:
            return self._price * violation
        return (self._price + penalty * violation).clamp(min=0.0) ** 2 / (2.0 * penalty)


def _batch_of(pool: Pool, one: SliceProblem) -> ModelBatch:
    place = next(place for place, other in enumerate(pool.slices) if other is one)
    (batch,) = model_batches(pool, [place])
    return batch
