"""Which models a problem's slices can use, and why the others cannot."""

from collections.abc import Sequence
from typing import Literal

import structlog

from microopt.bus import Bus
from microopt.errors import ModelError
from microopt.messages import Problem, SliceProblem
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.slice_model.model_store import ModelStore

log = structlog.get_logger("microopt.worker")

Usable = tuple[dict[str, TrainedModel], dict[str, str]]
"""Models by name, and the reasons of the slices whose model cannot be used."""


class Models:
    """The models of problems' slices, out of a store that is open as long as the worker runs."""

    def __init__(self, files: dict[str, str], device: Literal["cpu", "cuda"] = "cpu") -> None:
        self._files = files
        self._device = device
        self._store: ModelStore | None = None

    def open(self, bus: Bus) -> None:
        """Begin to read models from a bus's object store."""
        self._store = ModelStore(bus, self._files, self._device)

    async def usable(self, problem: Problem, slices: Sequence[SliceProblem]) -> Usable:
        """Return the models that some of the problem's slices can use, each asked for once.

        Raises:
            TemporaryError: the bus does not answer now.
        """
        found = {name: await self._found(name) for name in {item.model for item in slices}}
        models: dict[str, TrainedModel] = {}
        broken: dict[str, str] = {}
        for item in slices:
            model = found[item.model]
            try:
                models[item.model] = _fitting(problem, item, model)
            except ModelError as error:
                log.error("model_unusable", slice=item.slice, error=str(error))
                broken[item.slice] = str(error)
        return models, broken

    async def _found(self, name: str) -> TrainedModel | ModelError:
        if self._store is None:
            raise ModelError("the model store is not open")
        try:
            return await self._store.get(name)
        except ModelError as error:
            return error


def _fitting(problem: Problem, item: SliceProblem, model: TrainedModel | ModelError) -> TrainedModel:
    if isinstance(model, ModelError):
        raise model
    model.require_resources(tuple(item.bounds))
    _require_qos(item, model)
    _require_units(problem, model)
    return model


def _require_qos(item: SliceProblem, model: TrainedModel) -> None:
    header, sla = model.header, item.sla
    predicted = (header.qos_metric, header.qos_unit, header.higher_is_better)
    wanted = (sla.qos_metric, sla.qos_unit, sla.higher_is_better)
    if predicted != wanted:
        raise ModelError(
            f"model {model.name} predicts {header.qos_metric} in {header.qos_unit} "
            f"(higher_is_better={header.higher_is_better}), the SLA is on {sla.qos_metric} in {sla.qos_unit} "
            f"(higher_is_better={sla.higher_is_better})"
        )


def _require_units(problem: Problem, model: TrainedModel) -> None:
    """Make sure that the numbers mean the same: 2 cores are not 2 millicores."""
    for resource in model.header.resources:
        spec = problem.resources.get(resource.name)
        if spec is None:
            raise ModelError(
                f"model {model.name} needs {resource.name}, pool {problem.pool} has {sorted(problem.resources)}"
            )
        if spec.unit != resource.unit:
            raise ModelError(
                f"model {model.name} has {resource.name} in {resource.unit}, pool {problem.pool} in {spec.unit}"
            )
