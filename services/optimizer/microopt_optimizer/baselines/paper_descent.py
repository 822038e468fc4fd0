"""The inner loop of Algorithm 1: projected gradient steps on the surrogate Lagrangian of a batch of slices."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from msgspec import Meta, Struct
from torch import Tensor

from microopt_optimizer.baselines.model_batch import ModelBatch
from microopt_optimizer.baselines.paper_estimate import Estimator
from microopt_optimizer.solver.base import Clock

_Count = Annotated[int, Meta(ge=1)]
_Positive = Annotated[float, Meta(gt=0.0)]


class PaperSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hyper-parameters of Algorithm 1; the paper prints none of their values (how these were found: docs).

    Everything is without units: allocations as shares of their bounds' spans, costs of that of the slice's whole
    span, ρ times q_thresh. So one setting serves all slices. `points` are sampled in each outer iteration, and
    from the best `descents` of them and of the best point so far a descent begins.
    """

    outer_rounds: _Count = 120
    """τ_1,max"""
    inner_steps: _Count = 10
    """τ_2,max"""
    step: _Positive = 0.0045
    """α1"""
    degradation_step: _Positive = 0.17
    """α2"""
    capacity_step: _Positive = 3.0
    """α3"""
    gap: _Positive = 1e-4
    """ε1"""
    slope: _Positive = 1e-3
    """ε2"""
    sharpness: _Positive = 120.0
    """ρ, over q_thresh"""
    degradation_price: Annotated[float, Meta(ge=0.0)] = 0.7
    """λ to begin with"""
    points: _Count = 8
    descents: _Count = 4
    slots: _Count = 512
    seed: Annotated[int, Meta(ge=0)] = 0


class Ends(NamedTuple):
    """Where descents ended, [S, descents, K], in the order of their starts; whether all had come to rest."""

    points: Tensor
    converged: bool


class Descent:
    """Minimises the surrogate Lagrangian of one batch, from random starts."""

    def __init__(self, batch: ModelBatch, settings: PaperSettings, scalar: float | None) -> None:
        self.batch = batch
        self.settings = settings
        self.estimator = Estimator(
            batch, slots=settings.slots, sharpness=settings.sharpness, seed=settings.seed, scalar=scalar
        )
        self.scale = (batch.prices * batch.span).sum(-1).clamp(min=1e-300)
        self._generator = torch.Generator().manual_seed(settings.seed + 1)

    def run(self, degradation_price: Tensor, capacity_prices: Tensor, known: Tensor, clock: Clock) -> Ends:
        """Descend from random points and from the best `known` so far [S, K].

        `degradation_price` is λ [S] as a share of `scale`, `capacity_prices` μ [K] in cost per unit.
        """
        cost = (self.batch.prices + capacity_prices) * self.batch.span / self.scale.unsqueeze(-1)

        def lagrangian(points: Tensor) -> Tensor:
            surrogate = self.estimator.surrogate(points)
            return (points * cost.unsqueeze(1)).sum(-1) + degradation_price.unsqueeze(1) * surrogate

        # Initialization(x, f) is not printed. The Lagrangian's least value is where all resources are at their
        # floors until λ is so large that β is far below its threshold: the model is not convex. What leads to the
        # threshold are minima near feasible points, so descents begin at the cheapest feasible of the points.
        points = self._best(cost, torch.cat([known.unsqueeze(1), self._sampled()], dim=1), self.settings.descents)
        slope = float("inf")
        # "and": as printed, with "or", a loop that has converged would go on, and one that never does for ever.
        # The count of steps begins anew in each outer iteration (printed: only before the first).
        for _ in range(self.settings.inner_steps):
            if slope <= self.settings.slope or clock.expired:
                break
            moved = (points - self.settings.step * _gradient(lagrangian, points)).clamp(0.0, 1.0)
            # The gradient as far as the bounds let it act: at a bound it need not vanish.
            slope = float((points - moved).abs().amax()) / self.settings.step
            points = moved
        return Ends(points, slope <= self.settings.slope)

    def _sampled(self) -> Tensor:
        """Return points drawn from the whole of the bounds, [S, points, K]."""
        slices, resources = self.batch.floors.shape
        return torch.rand(slices, self.settings.points, resources, generator=self._generator, dtype=torch.float64)

    def _best(self, cost: Tensor, points: Tensor, count: int) -> Tensor:
        """Return the cheapest feasible of the points, then the least degraded, [S, count, K]."""
        degradation = self.estimator.strict(points).judged
        feasible = degradation <= self.batch.target.unsqueeze(1)
        most = cost.sum(-1, keepdim=True) + 1.0
        rank = torch.where(feasible, (points * cost.unsqueeze(1)).sum(-1), most + degradation)
        order = rank.argsort(dim=1, stable=True)[:, :count]
        return points.gather(1, order.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


def _gradient(lagrangian: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    points = points.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(lagrangian(points).sum(), points)
    return torch.nan_to_num(gradient, nan=0.0)
