"""E(β) as a function of the allocations of S slices, with its gradient: of any model, or of stacked networks."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from microopt_optimizer.slice_model.distribution import QosFunction, expected_degradation

ROWS_PER_CALL = 16_384
"""Rows of users and resources that a model is given at once: what fits a core's cache."""


class Field(Protocol):
    """E(β) of S slices; where a model says nothing (NaN), nothing good may be assumed: 1."""

    @property
    def rows(self) -> int:
        """Return how many rows of a model one point of every slice takes."""
        ...

    def value(self, allocations: Tensor) -> Tensor:
        """Return E(β) [S, N] at allocations [S, N, K]."""
        ...

    def value_and_slope(self, allocations: Tensor) -> tuple[Tensor, Tensor]:
        """Return E(β) [S, N] at allocations [S, N, K], and its gradient there [S, N, K]."""
        ...

    def select(self, rows: Sequence[int]) -> "Field":
        """Return the field of some of its slices."""
        ...

    def single(self) -> "Field":
        """Return the field in single precision, for a first look."""
        ...


class FunctionField:
    """The field of slices that share any one model, differentiated automatically.

    `users` and `weights` have shape [S, J] and `qos_threshold` [S].
    """

    def __init__(
        self, model: QosFunction, users: Tensor, weights: Tensor, qos_threshold: Tensor, higher_is_better: bool
    ) -> None:
        self._model = model
        with torch.inference_mode(False):  # they take part in automatic differentiation
            self._users, self._weights, self._qos_threshold = users.clone(), weights.clone(), qos_threshold.clone()
        self._higher_is_better = higher_is_better

    @property
    def rows(self) -> int:
        """Return the rows of a point; see `Field`."""
        return self._users.numel()

    def value(self, allocations: Tensor) -> Tensor:
        """Return E(β); see `Field`."""
        with torch.no_grad():
            parts = torch.split(allocations, max(1, ROWS_PER_CALL // max(1, self.rows)), dim=1)
            return torch.cat([self._at(part) for part in parts], dim=1)

    def value_and_slope(self, allocations: Tensor) -> tuple[Tensor, Tensor]:
        """Return E(β) and its gradient; see `Field`."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = allocations.clone().requires_grad_(True)
            value = self._at(leaf)
            # A model may say the same whatever the resources.
            slope = torch.autograd.grad(value.sum(), leaf)[0] if value.requires_grad else torch.zeros_like(leaf)
        return value.detach(), torch.nan_to_num(slope, nan=0.0)

    def select(self, rows: Sequence[int]) -> "FunctionField":
        """Return the field of some of its slices."""
        chosen = list(rows)
        parts = (self._users[chosen], self._weights[chosen], self._qos_threshold[chosen])
        return FunctionField(self._model, *parts, self._higher_is_better)

    def single(self) -> "FunctionField":
        """Return the field itself: a model of unknown making is left in its precision."""
        return self

    def _at(self, allocations: Tensor) -> Tensor:
        degradation = expected_degradation(
            self._model,
            self._users.unsqueeze(1),
            self._weights.unsqueeze(1),
            allocations,
            self._qos_threshold.unsqueeze(1),
            self._higher_is_better,
        )
        return torch.nan_to_num(degradation, nan=1.0)
