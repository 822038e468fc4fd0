"""The QoS degradation of paper eq. (1) as Algorithm 1 sees it: by samples, by a surrogate, and strictly."""

from typing import NamedTuple

import torch
from torch import Tensor

from microopt_optimizer.baselines.model_batch import ModelBatch
from microopt_optimizer.slice_model.distribution import QosDistribution, user_shares

_LEAST_SLOTS = 16  # of an atom, however many atoms there are


class Strict(NamedTuple):
    """β [S, N] with the indicator: of the samples, for the multipliers; its expectation, for what is feasible."""

    sampled: Tensor
    judged: Tensor


class Estimator:
    """Draws the QoS of a batch's slots, q = μ + σε (paper eq. 5), with the same ε at every point.

    The forecast has no slots but atoms: a batch of slots has equally many of each atom, and each counts with its
    atom's share of the user-time. An atom's ε are stratified: one in each of n equally likely parts of the normal
    distribution, somewhere inside, so that few samples serve. The paper takes the QoS to be normal: of mixtures
    and ensembles these are the expectation and the standard deviation.

    With `scalar`, a slot's QoS is one number, μ − `scalar`·σ, μ + `scalar`·σ where lower is better (§VI-C).
    """

    def __init__(
        self, batch: ModelBatch, *, slots: int, sharpness: float, seed: int, scalar: float | None
    ) -> None:
        self._batch = batch
        self._shares = user_shares(batch.users, batch.weights).unsqueeze(1)
        self._direction = 1.0 if batch.higher_is_better else -1.0
        self._exact = scalar is None
        # ρ is told in shares of the threshold, so that it means the same in Mbit/s as in ms.
        self._sharpness = (sharpness / batch.qos_threshold).view(-1, 1, 1, 1)
        atoms = batch.users.shape[1]
        if scalar is None:
            self._noise = _stratified(atoms, max(_LEAST_SLOTS, slots // atoms), seed)
        else:
            self._noise = torch.full((atoms, 1), scalar, dtype=torch.float64)

    def surrogate(self, points: Tensor) -> Tensor:
        """Return β̂ [S, N] at points [S, N, K], with a sigmoid for the indicator; differentiable."""
        # σ(ρ(q_thresh − q)): as printed, with q − q_thresh, the surrogate would rise as the QoS improves.
        short = self._short(*_moments(self._qos(points)))
        return self._mean(torch.sigmoid(self._sharpness * short).mean(-1))

    def strict(self, points: Tensor) -> Strict:
        """Return β at points [S, N, K], with the indicator of eq. (1)."""
        with torch.no_grad():
            qos = self._qos(points)
            mean, std = _moments(qos)
            missed = (self._short(mean, std) >= 0.0).to(torch.float64).mean(-1)
            sampled = self._mean(torch.where(torch.isfinite(mean + std), missed, 1.0))
            if not self._exact:
                return Strict(sampled, sampled)
            batch = self._batch
            return Strict(
                sampled, self._mean(qos.missed(batch.qos_threshold.view(-1, 1, 1), batch.higher_is_better))
            )

    def _qos(self, points: Tensor) -> QosDistribution:
        return self._batch.model(self._batch.users.unsqueeze(1), self._batch.allocations(points).unsqueeze(-2))

    def _short(self, mean: Tensor, std: Tensor) -> Tensor:
        """Return by how much the sampled QoS misses its threshold, [S, N, J, n]; negative where it does not."""
        missing = self._direction * (self._batch.qos_threshold.view(-1, 1, 1) - mean)
        return torch.addcmul(missing.unsqueeze(-1), std.unsqueeze(-1), self._noise)

    def _mean(self, of_atoms: Tensor) -> Tensor:
        """Return the mean over user-time of what is known of each atom, [S, N, J] to [S, N]."""
        return torch.nan_to_num((self._shares * of_atoms).sum(-1), nan=1.0)


def _stratified(atoms: int, count: int, seed: int) -> Tensor:
    """Return `count` standard normal numbers for each atom, [J, count]."""
    generator = torch.Generator().manual_seed(seed)
    inside = torch.rand(atoms, count, generator=generator, dtype=torch.float64)
    level = (torch.arange(count) + inside) / count
    normal: Tensor = torch.special.ndtri(level.clamp(1e-12, 1.0 - 1e-12))
    return normal


def _moments(qos: QosDistribution) -> tuple[Tensor, Tensor]:
    if qos.mean.shape[-1] == 1:
        return qos.mean[..., 0], qos.std[..., 0]
    return qos.expectation, qos.deviation
