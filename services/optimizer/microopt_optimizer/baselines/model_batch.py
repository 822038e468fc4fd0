"""Slices that share a model, for methods that ask it for the distribution of the QoS itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.solver.base import QosModel
from microopt_optimizer.solver.batch import Cube
from microopt_optimizer.solver.grouping import cube, has_traffic, traffic
from microopt_optimizer.solver.pool import Pool


@dataclass(frozen=True)
class ModelBatch(Cube):
    """S slices of one model; `users` and `weights` have shape [S, J], `qos_threshold` [S]."""

    model: QosModel
    higher_is_better: bool
    users: Tensor
    weights: Tensor
    qos_threshold: Tensor

    def degradation(self, points: Tensor) -> Tensor:
        """Return E(β) in closed form at points [S, N, K] of the unit cube, as [S, N]; 1 where it is unknown."""
        with torch.no_grad():
            degradation = expected_degradation(
                self.model,
                self.users.unsqueeze(1),
                self.weights.unsqueeze(1),
                self.allocations(points),
                self.qos_threshold.unsqueeze(1),
                self.higher_is_better,
            )
        return torch.nan_to_num(degradation, nan=1.0)

    def select(self, rows: Sequence[int]) -> "ModelBatch":
        """Return the batch of some of its slices."""
        some = list(rows)
        own = {name: getattr(self, name)[some] for name in ("users", "weights", "qos_threshold")}
        return replace(self.chosen(some), **own)


def model_batches(pool: Pool, places: Sequence[int] | None = None) -> list[ModelBatch]:
    """Group slices that expect traffic by model: all of the pool's, or those at `places`."""
    groups: dict[str, list[int]] = {}
    for place in range(len(pool.slices)) if places is None else places:
        one = pool.slices[place]
        if has_traffic(one):
            groups.setdefault(pool.models[one.model].digest, []).append(place)
    return [_model_batch(pool, group) for group in groups.values()]


def _model_batch(pool: Pool, places: list[int]) -> ModelBatch:
    slices = [pool.slices[place] for place in places]
    users, weights = traffic(slices)
    return ModelBatch(
        model=pool.models[slices[0].model],
        higher_is_better=slices[0].sla.higher_is_better,
        users=users,
        weights=weights,
        qos_threshold=torch.tensor([one.sla.qos_threshold for one in slices], dtype=torch.float64),
        **cube(pool.problem, pool.models, places),
    )
