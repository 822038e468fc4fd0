"""Slices that share a model, as tensors, so that one call of the model serves them all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microopt.errors import InvalidMessageError, ModelError
from microopt.messages import Problem, SliceProblem
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.solver.base import Models, QosModel

MARGIN = 1e-9
"""Solvers aim this far below the threshold, so that rounding in another batch shape cannot push E(β) over it."""

_ROWS_PER_CALL = 16_384  # what fits a core's cache; larger calls take longer per row


@dataclass(frozen=True)
class Batch:
    """S slices with J atoms of traffic and K resources, in float64; atoms are padded with weight 0.

    `position` are the slices' places in the problem. `floors`, `ceilings` and `prices` (cost per unit: η, plus μ
    where capacities bind) have shape [S, K]; `users` and `weights` [S, J]; both thresholds [S].
    """

    model: QosModel
    higher_is_better: bool
    position: tuple[int, ...]
    floors: Tensor
    ceilings: Tensor
    prices: Tensor
    users: Tensor
    weights: Tensor
    qos_threshold: Tensor
    threshold: Tensor

    @property
    def span(self) -> Tensor:
        """Return the widths of the bounds, [S, K]."""
        return self.ceilings - self.floors

    @property
    def target(self) -> Tensor:
        """Return the E(β) that solvers aim for, [S]."""
        return self.threshold - torch.clamp(self.threshold * 1e-3, max=MARGIN)

    def units(self) -> Tensor:
        """Return the cost of each resource's whole span as a share of all spans' cost, [S, K]."""
        cost = self.prices * self.span
        total = cost.sum(-1, keepdim=True)
        return torch.where(total > 0.0, cost / total, torch.zeros_like(cost))

    def allocations(self, points: Tensor) -> Tensor:
        """Return the allocations at points of the unit cube, [S, N, K]."""
        low, high = self.floors.unsqueeze(1), self.ceilings.unsqueeze(1)
        return torch.clamp(low + points * (high - low), low, high)

    def degradation(self, points: Tensor) -> Tensor:
        """Return E(β) at points [S, N, K] of the unit cube, as [S, N]; cut in chunks unless differentiating."""
        allocations = self.allocations(points)
        if points.requires_grad:
            return self._degradation(allocations)
        rows = max(1, len(self.position) * self.users.shape[1])
        chunks = torch.split(allocations, max(1, _ROWS_PER_CALL // rows), dim=1)
        with torch.no_grad():
            return torch.cat([self._degradation(chunk) for chunk in chunks], dim=1)

    def _degradation(self, allocations: Tensor) -> Tensor:
        degradation = expected_degradation(
            self.model,
            self.users.unsqueeze(1),
            self.weights.unsqueeze(1),
            allocations,
            self.qos_threshold.unsqueeze(1),
            self.higher_is_better,
        )
        # Where a model says nothing, nothing good may be assumed.
        return torch.nan_to_num(degradation, nan=1.0)

    def at(self, allocations: Tensor) -> Tensor:
        """Return E(β) [S] at one allocation a slice, [S, K] in the resources' own units."""
        with torch.no_grad():
            return self._degradation(allocations.unsqueeze(1)).squeeze(1)

    def points(self, allocations: Tensor) -> Tensor:
        """Return where in the unit cube allocations [S, K] are; 0 along a resource whose bounds are equal."""
        span = self.span
        inside = torch.where(span > 0.0, (allocations - self.floors) / span.clamp(min=1e-300), 0.0)
        return inside.clamp(0.0, 1.0)

    def select(self, rows: Sequence[int]) -> "Batch":
        """Return the batch of some of its slices."""
        chosen = list(rows)
        return replace(
            self,
            position=tuple(self.position[row] for row in chosen),
            **{name: getattr(self, name)[chosen] for name in _PER_SLICE},
        )

    def with_prices(self, capacity_prices: Tensor) -> "Batch":
        """Return the batch with each resource dearer by its capacity price, [K] in the model's order."""
        return replace(self, prices=self.prices + capacity_prices)


_PER_SLICE = ("floors", "ceilings", "prices", "users", "weights", "qos_threshold", "threshold")


def has_traffic(slice_problem: SliceProblem) -> bool:
    """Return whether any users are expected at all."""
    return slice_problem.traffic.mean > 0.0


def batches(problem: Problem, models: Models) -> list[Batch]:
    """Group the slices that expect traffic by model; those that expect none are checked all the same.

    Raises:
        ModelError: a slice's model is missing, or of other resources, units or another QoS than the slice's.
        InvalidMessageError: a slice has bounds for a resource that its pool does not have.
    """
    groups: dict[str, list[int]] = {}
    for place, slice_problem in enumerate(problem.slices):
        model = check(problem, slice_problem, models)
        if has_traffic(slice_problem):
            groups.setdefault(model.digest, []).append(place)
    return [_batch(problem, models, places) for places in groups.values()]


def check(problem: Problem, slice_problem: SliceProblem, models: Models) -> QosModel:
    """Return the slice's model, having checked that it speaks of the same resources and QoS; raises: `batches`."""
    name, who = slice_problem.model, f"slice {slice_problem.slice}"
    if name not in models:
        raise ModelError(f"{who}: model {name} is not loaded; loaded are {sorted(models)}")
    header, sla = models[name].header, slice_problem.sla
    if set(slice_problem.bounds) - set(problem.resources):
        raise InvalidMessageError(
            f"{who}: bounds name {sorted(slice_problem.bounds)}, but pool {problem.pool} has "
            f"{sorted(problem.resources)}"
        )
    if set(header.resource_names) != set(slice_problem.bounds):
        raise ModelError(
            f"model {name} was trained for resources {sorted(header.resource_names)}, "
            f"{who} needs {sorted(slice_problem.bounds)}"
        )
    for resource in header.resources:
        unit = problem.resources[resource.name].unit
        if resource.unit != unit:
            raise ModelError(
                f"model {name} takes {resource.name} in {resource.unit}, pool {problem.pool} in {unit}"
            )
    trained = (header.qos_metric, header.qos_unit, header.higher_is_better)
    if trained != (sla.qos_metric, sla.qos_unit, sla.higher_is_better):
        raise ModelError(
            f"model {name} predicts {_qos(*trained)}, the SLA of {who} is about "
            f"{_qos(sla.qos_metric, sla.qos_unit, sla.higher_is_better)}"
        )
    return models[name]


def _qos(metric: str, unit: str, higher_is_better: bool) -> str:
    return f"{metric} in {unit} ({'higher' if higher_is_better else 'lower'} is better)"


def _batch(problem: Problem, models: Models, places: list[int]) -> Batch:
    slices = [problem.slices[place] for place in places]
    model = models[slices[0].model]
    names = model.header.resource_names
    atoms = max(len(one.traffic.users) for one in slices)
    return Batch(
        model=model,
        higher_is_better=slices[0].sla.higher_is_better,
        position=tuple(places),
        floors=_tensor([[one.bounds[name].floor for name in names] for one in slices]),
        ceilings=_tensor([[one.bounds[name].ceiling for name in names] for one in slices]),
        prices=_tensor([[problem.resources[name].weight for name in names]] * len(slices)),
        users=_tensor([_padded(one.traffic.users, atoms) for one in slices]),
        weights=_tensor([_padded(one.traffic.weights, atoms) for one in slices]),
        qos_threshold=_tensor([one.sla.qos_threshold for one in slices]),
        threshold=_tensor([one.sla.degradation_threshold for one in slices]),
    )


def _padded(values: tuple[float, ...], length: int) -> list[float]:
    return [*values, *[0.0] * (length - len(values))]


def _tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
