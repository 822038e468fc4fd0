"""From a problem's slices to batches: what is checked of each, and which ones go together."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from microopt.errors import InvalidMessageError, ModelError
from microopt.messages import Problem, SliceProblem
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.base import Models, QosModel
from microopt_optimizer.solver.batch import Batch
from microopt_optimizer.solver.field import Field, FunctionField
from microopt_optimizer.solver.network_field import NetworkField
from microopt_optimizer.solver.networks import Networks, stack

_KEPT_STACKS = 4


def has_traffic(slice_problem: SliceProblem) -> bool:
    """Return whether any users are expected at all."""
    return slice_problem.traffic.mean > 0.0


def batches(problem: Problem, models: Models) -> list[Batch]:
    """Group the slices that expect traffic by what can be evaluated together; check those that expect none, too.

    Trained networks of one architecture go together, each with its own weights; any other model by itself.

    Raises:
        ModelError: a slice's model is missing, or of other resources, units or another QoS than the slice's.
        InvalidMessageError: a slice has bounds for a resource that its pool does not have.
    """
    groups: dict[object, list[int]] = {}
    for place, slice_problem in enumerate(problem.slices):
        model = check(problem, slice_problem, models)
        if has_traffic(slice_problem):
            kind = model.network.architecture if isinstance(model, TrainedModel) else model.digest
            groups.setdefault((kind, slice_problem.sla.higher_is_better), []).append(place)
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
    own = [models[one.model] for one in slices]
    return Batch(field=_field(own, slices), **cube(problem, models, places))


def cube(problem: Problem, models: Models, places: list[int]) -> dict[str, Any]:
    """Return the parts of a `Cube` of the slices at some places, by name."""
    slices = [problem.slices[place] for place in places]
    own = [models[one.model] for one in slices]
    order = {name: column for column, name in enumerate(problem.resources)}
    names = [model.header.resource_names for model in own]
    columns = torch.tensor([[order[name] for name in each] for each in names])
    bounds = [[one.bounds[name] for name in each] for one, each in zip(slices, names, strict=True)]
    weights = _tensor([spec.weight for spec in problem.resources.values()])
    return {
        "position": tuple(places),
        "columns": columns,
        "floors": _tensor([[bound.floor for bound in each] for each in bounds]),
        "ceilings": _tensor([[bound.ceiling for bound in each] for each in bounds]),
        "prices": weights[columns],
        "threshold": _tensor([one.sla.degradation_threshold for one in slices]),
    }


def traffic(slices: Sequence[SliceProblem]) -> tuple[Tensor, Tensor]:
    """Return users and weights of the slices' atoms, [S, J] each, padded with weight 0."""
    atoms = max(len(one.traffic.users) for one in slices)
    users = _tensor([_padded(one.traffic.users, atoms) for one in slices])
    return users, _tensor([_padded(one.traffic.weights, atoms) for one in slices])


def _field(models: Sequence[QosModel], slices: Sequence[SliceProblem]) -> Field:
    users, weights = traffic(slices)
    qos_threshold = _tensor([one.sla.qos_threshold for one in slices])
    higher_is_better = slices[0].sla.higher_is_better
    trained = [model for model in models if isinstance(model, TrainedModel)]
    if len(trained) == len(models):
        return NetworkField.of(_STACKS.of(trained), users, weights, qos_threshold, higher_is_better)
    return FunctionField(models[0], users, weights, qos_threshold, higher_is_better)


class _Stacks:
    """Stacked networks of the last few sets of models: from one interval to the next they seldom change."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Networks] = OrderedDict()
        self._lock = Lock()

    def of(self, models: Sequence[TrainedModel]) -> Networks:
        key = (models[0].network.qos_scale.device, *(model.digest for model in models))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _stacked(models)
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT_STACKS:
                self._kept.popitem(last=False)
            return self._kept[key]


_STACKS = _Stacks()


def _stacked(models: Sequence[TrainedModel]) -> Networks:
    """Return a stack with a network for each model, having folded each different one once."""
    distinct = {model.digest: model for model in models}
    networks = stack([model.network for model in distinct.values()])
    if len(distinct) == len(models):
        return networks
    place = {digest: index for index, digest in enumerate(distinct)}
    members = networks.members
    rows = torch.tensor([place[model.digest] * members + member for model in models for member in range(members)])
    return networks.map(lambda tensor: tensor[rows])


def _padded(values: tuple[float, ...], length: int) -> list[float]:
    return [*values, *[0.0] * (length - len(values))]


def _tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
