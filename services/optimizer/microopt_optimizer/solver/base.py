"""What every solver is given and gives back, and the clock that it keeps."""

import time
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from microopt.messages import Problem, Solution
from microopt_optimizer.slice_model.distribution import QosDistribution
from microopt_optimizer.slice_model.model_file import ModelHeader

DEADLINE_SHARE = 0.8
"""The part of `Problem.deadline_s` that refining may use; the rest is for verifying and sending the answer."""


class QosModel(Protocol):
    """A slice model that a solver can use: a function in float64, and what it is a model of."""

    @property
    def header(self) -> ModelHeader:
        """Return resources in the order of the inputs, QoS metric and training ranges."""
        ...

    @property
    def digest(self) -> str:
        """Return what identifies the model; equal digests are the same model."""
        ...

    def __call__(self, users: Tensor, resources: Tensor, /) -> QosDistribution:
        """Return the distribution of the QoS for users [...] and resources [..., K]."""
        ...


Models = Mapping[str, QosModel]
"""Loaded models by name (`SliceProblem.model`)."""


class Solver(Protocol):
    """An optimizer."""

    def solve(self, problem: Problem, models: Models) -> Solution:
        """Return an answer for every slice of `problem`, in its order.

        Raises:
            ModelError: a slice's model is missing, or is of other resources or another QoS than the slice's.
            InvalidMessageError: a slice has bounds for a resource that its pool does not have.
        """
        ...


class Clock:
    """Says how long solving took so far, and whether it is time to stop refining."""

    def __init__(self, deadline_s: float, *, share: float = DEADLINE_SHARE) -> None:
        self._start = time.perf_counter()
        self._limit_s = share * deadline_s

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the clock was made."""
        return time.perf_counter() - self._start

    @property
    def expired(self) -> bool:
        """Return whether the time for refining is used up."""
        return self.elapsed_s >= self._limit_s

    def part(self, share: float) -> "Clock":
        """Return a clock that expires after `share` of the time that is left."""
        return Clock(max(0.0, self._limit_s - self.elapsed_s), share=share)
