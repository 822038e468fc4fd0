"""What the slice models say of allocations: E(β) at exactly what is asked about, whoever answered it."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from microopt.messages import Check, Checked, SliceCheck, SliceProblem, Values
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import Range, TrainedModel
from microopt_optimizer.solver.answers import listed
from microopt_optimizer.solver.device import solving_on
from microopt_optimizer.solver.field import ROWS_PER_CALL
from microopt_optimizer.solver.grouping import has_traffic, traffic
from microopt_optimizer.worker.models import Models

TRAINED_TOLERANCE = 1e-6
"""How far an input may lie outside of the trained range, as a share of the range's larger end: rounding."""
LEAST_WEIGHT = 1e-6
"""Atoms of less weight than this are not held to the trained range: E(β) hardly depends on them."""

Asked = tuple[SliceProblem, Values]


class Checker:
    """Answers checks in a thread of its own: they do not wait behind a solve."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")

    async def check(self, asked: Check) -> Checked:
        """Return what the slice models say of the allocations.

        Raises:
            TemporaryError: the bus, where the models are, does not answer now.
        """
        slices = [item for item in asked.problem.slices if item.slice in asked.allocations]
        models, broken = await self._models.usable(asked.problem, slices)
        loop = asyncio.get_running_loop()
        return Checked(slices=await loop.run_in_executor(self._executor, checks, asked, models, broken))

    def close(self) -> None:
        """Wait for the check in hand."""
        self._executor.shutdown()


def checks(asked: Check, models: Mapping[str, TrainedModel], broken: Mapping[str, str]) -> list[SliceCheck]:
    """Return a check for each allocation, in their order; `broken` has why slices' models cannot be used."""
    known = {item.slice: item for item in asked.problem.slices}
    found: dict[str, SliceCheck] = {}
    groups: dict[str, list[Asked]] = {}
    for name, allocation in asked.allocations.items():
        item = known.get(name)
        if item is None:
            found[name] = SliceCheck(slice=name, error=f"slice {name} is not in the problem")
        elif error := broken.get(name) or _mistake(item, allocation, models):
            found[name] = SliceCheck(slice=name, error=error)
        elif has_traffic(item):
            groups.setdefault(item.model, []).append((item, allocation))
        else:  # nobody is degraded, and the model is not asked
            found[name] = SliceCheck(slice=name, expected_degradation=0.0)
    for model, members in groups.items():
        found |= {one.slice: one for one in _checked(models[model], members)}
    return [found[name] for name in asked.allocations]


def _mistake(item: SliceProblem, allocation: Values, models: Mapping[str, TrainedModel]) -> str:
    """Return what keeps the model from telling anything of an allocation, or nothing."""
    if item.model not in models:
        return f"model {item.model} is not loaded"
    needed = set(models[item.model].header.resource_names)
    if missing := sorted(needed - set(allocation)):
        return f"the allocation lacks {listed(missing)}, which model {item.model} takes"
    if unknown := sorted(set(allocation) - needed):
        return f"the allocation names {listed(unknown)}, which model {item.model} does not take"
    if broken := sorted(name for name, value in allocation.items() if not math.isfinite(value)):
        return f"the allocation is not a number for {listed(broken)}"
    return ""


def _checked(model: TrainedModel, members: Sequence[Asked]) -> Iterator[SliceCheck]:
    """Return the checks of slices with traffic that share a model."""
    degradations = degradation(model, members)
    for (item, allocation), value in zip(members, degradations, strict=True):
        if math.isnan(value):
            yield SliceCheck(slice=item.slice, error=f"model {item.model} gives no number for this allocation")
            continue
        yield SliceCheck(
            slice=item.slice,
            expected_degradation=min(1.0, max(0.0, value)),
            outside=_outside(model, item, allocation),
        )


def degradation(model: TrainedModel, members: Sequence[Asked]) -> list[float]:
    """Return E(β) in closed form (paper eq. 1) of slices that share a model, each at its allocation."""
    with torch.inference_mode(), solving_on(model.network.qos_scale.device):
        slices = [item for item, _ in members]
        users, weights = traffic(slices)
        names = model.header.resource_names
        resources = _tensor([[allocation[name] for name in names] for _, allocation in members])
        threshold = _tensor([item.sla.qos_threshold for item in slices])
        at_once = max(1, ROWS_PER_CALL // (users.shape[1] * model.header.architecture.members))
        parts = [torch.split(each, at_once) for each in (users, weights, resources, threshold)]
        higher = model.header.higher_is_better
        values: list[float] = torch.cat(
            [expected_degradation(model, x, w, r, q, higher) for x, w, r, q in zip(*parts, strict=True)]
        ).tolist()
        return values


def _outside(model: TrainedModel, item: SliceProblem, allocation: Values) -> str:
    """Return the inputs for which the model was never measured, each with its value and range, or nothing."""
    header = model.header
    pairs = zip(item.traffic.users, item.traffic.weights, strict=True)
    expected = [users for users, weight in pairs if users > 0.0 and weight > LEAST_WEIGHT]
    inputs = (
        [("users", value, header.users) for value in sorted({min(expected), max(expected)})] if expected else []
    )
    inputs += [(each.name, allocation[each.name], each.trained) for each in header.resources]
    return listed(
        [
            f"{name} {value:.6g} (trained {trained.low:g} to {trained.high:g})"
            for name, value, trained in inputs
            if not within(value, trained)
        ]
    )


def within(value: float, trained: Range) -> bool:
    """Return whether a value lies within a trained range, but for rounding."""
    tolerance = TRAINED_TOLERANCE * max(abs(trained.low), abs(trained.high))
    return trained.low - tolerance <= value <= trained.high + tolerance


def _tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
