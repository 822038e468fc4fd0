"""Gradient refinement of many starts at once: an augmented Lagrangian on the closed form of E(β)."""

import math

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.screen import Screened

_STEPS = 40
_STEPS_PER_MULTIPLIER = 4
_FIRST_STEP = 0.04
_LAST_STEP = 0.002
_FIRST_PENALTY = 5.0
_LAST_PENALTY = 100.0
_MOMENTUM, _SQUARES = 0.8, 0.95


def refine(batch: Batch, starts: Tensor, clock: Clock) -> tuple[Screened, bool]:
    """Return every point visited from `starts` [S, M, K], and whether no step was cut off by the clock.

    Each start minimises cost + max(0, λ + ρ(E − β_thresh))²/2ρ by projected Adam steps, where cost is a
    share of the spans' cost. λ takes the usual update λ ← max(0, λ + ρ(E − β_thresh)); ρ only grows.
    """
    points = starts.clone()
    first, second = torch.zeros_like(points), torch.zeros_like(points)
    multiplier = torch.ones(points.shape[:2], dtype=points.dtype)
    visited: list[tuple[Tensor, Tensor]] = []
    for step in range(_STEPS):
        if clock.expired:
            return _screened(starts, batch, visited), False
        progress = step / (_STEPS - 1)
        penalty = _geometric(_FIRST_PENALTY, _LAST_PENALTY, progress)
        degradation, slope = value_and_slope(batch, points)
        visited.append((points, degradation))
        excess = degradation - batch.target.unsqueeze(1)
        pressure = torch.clamp(multiplier + penalty * excess, min=0.0)
        gradient = batch.units().unsqueeze(1) + pressure.unsqueeze(-1) * slope
        first = _MOMENTUM * first + (1.0 - _MOMENTUM) * gradient
        second = _SQUARES * second + (1.0 - _SQUARES) * gradient**2
        unbiased = first / (1.0 - _MOMENTUM ** (step + 1))
        scale = torch.sqrt(second / (1.0 - _SQUARES ** (step + 1))) + 1e-12
        points = torch.clamp(points - _geometric(_FIRST_STEP, _LAST_STEP, progress) * unbiased / scale, 0.0, 1.0)
        if step % _STEPS_PER_MULTIPLIER == _STEPS_PER_MULTIPLIER - 1:
            multiplier = pressure
    return _screened(starts, batch, visited), True


def value_and_slope(batch: Batch, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return E(β) at points [S, M, K] and its gradient by the unit cube's coordinates."""
    leaf = points.detach().requires_grad_(True)
    degradation = batch.degradation(leaf)
    (slope,) = torch.autograd.grad(degradation.sum(), leaf)
    return degradation.detach(), slope


def _screened(starts: Tensor, batch: Batch, visited: list[tuple[Tensor, Tensor]]) -> Screened:
    if not visited:
        return Screened(starts, batch.degradation(starts))
    points, degradation = zip(*visited, strict=True)
    return Screened(torch.cat(points, dim=1), torch.cat(degradation, dim=1))


def _geometric(first: float, last: float, progress: float) -> float:
    return first * math.pow(last / first, progress)
