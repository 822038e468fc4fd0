"""Walks begun anew around the best: kinks of the edge catch many walks early, of three resources and more most."""

import torch
from torch import Tensor

from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.edge import lowered
from microopt_optimizer.solver.slp import Walked, walk

_ROUNDS_PER_RESOURCE = 12
_LEAST_IDLE = 4
_SCATTERED_ROUNDS = 2
_SCATTERED_RADIUS = 0.2
_ENDS_PER_RESOURCE = 2
_RADII = (1e-3, 0.2)
_NEARER = 0.5
_NOISE = 0.02
_GAIN = 1e-6


def refined(batch: Batch, walked: Walked, unsure: Tensor, clock: Clock, count: int) -> tuple[Walked, Tensor]:
    """Return the walks with `count` others at a time from around the best of unsure slices, and which ended [S].

    A slice has ended when several rounds in turn, as many as there are resources at least, gained it nothing;
    those that are not `unsure` [S] have from the beginning.
    """
    enough = max(_LEAST_IDLE, batch.floors.shape[1])
    idle = torch.where(unsure, 0, enough)
    for round_ in range(_ROUNDS_PER_RESOURCE * batch.floors.shape[1]):
        rows = (idle < enough).nonzero().flatten()
        if clock.expired or rows.numel() == 0:
            break
        part, some = batch.select(rows.tolist()), walked.select(rows)
        starts, radius = _around(some, count, round_, idle[rows])
        if round_ == 0 or bool((idle[rows] == enough - 1).any()):  # walks may have missed ways along an axis
            starts = torch.cat([lowered(part, some.best()[0], clock).unsqueeze(1), starts], dim=1)
        again = walk(part, starts, clock, radius)
        gained = again.cost.amin(1) < some.cost.amin(1) - _GAIN
        idle[rows] = torch.where(gained, 0, idle[rows] + 1)
        walked = walked.with_more(again.among(rows, len(batch.position)))
    return walked, idle >= enough


def _around(walked: Walked, count: int, round_: int, idle: Tensor) -> tuple[Tensor, float]:
    if round_ < _SCATTERED_ROUNDS:
        return _scattered(walked, count, round_)
    return _along(walked, count, round_, idle)


def _scattered(walked: Walked, count: int, round_: int) -> tuple[Tensor, float]:
    """Return starts anywhere near each slice's best point [S, count, K], and the radius of their first steps."""
    point = walked.best()[0].unsqueeze(1)
    offsets = _SCATTERED_RADIUS * _normal(count, point.shape[-1], round_, point)
    return (point + offsets).clamp(0.0, 1.0), _SCATTERED_RADIUS


def _along(walked: Walked, count: int, round_: int, idle: Tensor) -> tuple[Tensor, float]:
    """Return starts at sums of what lies between each slice's best point and the ends of its best walks.

    The ends lie along the valley, so that it is searched along its kinks and not across. The more rounds
    were `idle` [S], the nearer are the starts.
    """
    point = walked.best()[0].unsqueeze(1)
    resources = point.shape[-1]
    ends = walked.cost.topk(
        min(_ENDS_PER_RESOURCE * resources, walked.cost.shape[1]), dim=1, largest=False
    ).indices
    apart = walked.points.gather(1, ends.unsqueeze(-1).expand(-1, -1, resources)) - point
    mixed = _normal(count, apart.shape[1] + resources, round_, point)
    nearer = _NEARER**idle / apart.shape[1] ** 0.5
    offsets = mixed[:, : apart.shape[1]] @ apart * nearer.view(-1, 1, 1)
    radius = float(offsets.abs().amax((1, 2)).mean().clamp(*_RADII))
    noise = _NOISE * radius * mixed[:, apart.shape[1] :]
    return (point + offsets + noise).clamp(0.0, 1.0), radius


def _normal(count: int, columns: int, seed: int, like: Tensor) -> Tensor:
    """Return normal numbers [count, columns]; of the CPU, so that every device walks from the same places."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((count, columns), generator=generator, dtype=like.dtype, device="cpu").to(like.device)
