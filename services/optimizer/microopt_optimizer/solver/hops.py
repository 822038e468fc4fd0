"""Walks begun anew around the best: with three resources and more, kinks of the edge catch most walks early."""

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.slp import Walked, walk

_HOPS_PER_RESOURCE = 6
_SCATTERED_HOPS = 2
_SCATTERED_RADIUS = 0.2
_ENDS_PER_RESOURCE = 2
_STEPS = 8
_RADII = (1e-3, 0.2)
_NOISE = 0.02
_GAIN = 1e-6


def refined(batch: Batch, walked: Walked, clock: Clock, count: int, share: int = 1) -> Walked:
    """Return the walks, and `count` others at a time from around each slice's best point.

    The first begin anywhere near it. The later begin where the best walks have ended, mixed at random: these lie
    along the valley, so that it is searched along its kinks and not across. It is done when as many rounds in turn
    as there are resources gained nothing; `share` divides how many there are at most.
    """
    resources, idle = batch.floors.shape[1], 0
    for round_ in range(_HOPS_PER_RESOURCE * resources // share):
        if clock.expired or idle >= resources:
            break
        before = walked.best()[1]
        again = _scattered if round_ < _SCATTERED_HOPS else _along
        walked = walked.with_more(again(batch, walked, clock, (count, round_)))
        idle = 0 if bool((walked.best()[1] < before - _GAIN).any()) else idle + 1
    return walked


def _scattered(batch: Batch, walked: Walked, clock: Clock, draw: tuple[int, int]) -> Walked:
    """Return walks from anywhere near each slice's best point."""
    point = walked.best()[0].unsqueeze(1)
    offsets = _SCATTERED_RADIUS * _normal(draw, point.shape[-1], point)
    return walk(batch, (point + offsets).clamp(0.0, 1.0), clock, _SCATTERED_RADIUS)


def _along(batch: Batch, walked: Walked, clock: Clock, draw: tuple[int, int]) -> Walked:
    """Return walks from sums of what lies between each slice's best point and the ends of its best walks."""
    point = walked.best()[0].unsqueeze(1)
    resources = point.shape[-1]
    ends = walked.cost.topk(
        min(_ENDS_PER_RESOURCE * resources, walked.cost.shape[1]), dim=1, largest=False
    ).indices
    apart = walked.points.gather(1, ends.unsqueeze(-1).expand(-1, -1, resources)) - point
    mixed = _normal(draw, apart.shape[1] + resources, point)
    offsets = mixed[:, : apart.shape[1]] @ apart / apart.shape[1] ** 0.5
    radius = float(offsets.abs().amax((1, 2)).mean().clamp(*_RADII))
    noise = _NOISE * radius * mixed[:, apart.shape[1] :]
    return walk(batch, (point + offsets + noise).clamp(0.0, 1.0), clock, radius, _STEPS)


def _normal(draw: tuple[int, int], columns: int, like: Tensor) -> Tensor:
    """Return normal numbers [count, columns]; of the CPU, so that every device walks from the same places."""
    count, seed = draw
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((count, columns), generator=generator, dtype=like.dtype, device="cpu").to(like.device)
