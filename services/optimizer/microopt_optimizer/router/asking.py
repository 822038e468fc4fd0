"""Asking optimizers for solutions, and the slice models for their word on allocations."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from microopt import codec, subjects
from microopt.bus import Bus
from microopt.errors import MicrooptError
from microopt.messages import Check, Checked, Problem, SliceCheck, SliceProblem, Solution, Values
from microopt_optimizer.router.metrics import RouterMetrics

CHECKED_TOGETHER: Final = 250
"""Slices in one check: large pools are shared among the workers."""


@dataclass(frozen=True)
class Reply:
    """What came of asking one optimizer: its solution, or why there is none."""

    optimizer: str
    latency_s: float
    solution: Solution | None = None
    error: str = ""


class Asking:
    """Asks over the bus; an optimizer that fails is a reply that says so."""

    def __init__(self, bus: Bus, metrics: RouterMetrics) -> None:
        self._bus = bus
        self._metrics = metrics

    async def all(self, names: Iterable[str], problem: Problem, within_s: float) -> dict[str, Reply]:
        """Ask several optimizers the same at the same time, and wait no longer than `within_s`."""
        begun, names = time.monotonic(), list(names)
        try:
            data = codec.encode(problem)  # once for all: a thousand slices take tens of milliseconds
        except MicrooptError as error:
            return {name: self._failed(name, begun, error) for name in names}
        replies = await asyncio.gather(*(self._one(name, data, within_s) for name in names))
        return {reply.optimizer: reply for reply in replies}

    async def _one(self, name: str, data: bytes, within_s: float) -> Reply:
        begun = time.monotonic()
        try:
            with self._metrics.answer_s.labels(name).time():
                subject = subjects.optimize(name)
                solution = await self._bus.request(subject, data, Solution, timeout_s=within_s)
        except MicrooptError as error:
            return self._failed(name, begun, error)
        return Reply(name, time.monotonic() - begun, solution)

    def _failed(self, name: str, begun: float, error: MicrooptError) -> Reply:
        self._metrics.answers.labels(name, "failed").inc()
        return Reply(name, time.monotonic() - begun, error=str(error))

    async def check(
        self, problem: Problem, allocations: Mapping[str, Values], within_s: float
    ) -> dict[str, SliceCheck]:
        """Return what the slice models say of allocations, for the slices that somebody could tell of."""
        asked = [one for one in problem.slices if one.slice in allocations]
        parts = [asked[at : at + CHECKED_TOGETHER] for at in range(0, len(asked), CHECKED_TOGETHER)]
        found = await asyncio.gather(*(self._check(problem, part, allocations, within_s) for part in parts))
        return {one.slice: one for part in found for one in part if one.slice in allocations}

    async def _check(
        self, problem: Problem, slices: list[SliceProblem], allocations: Mapping[str, Values], within_s: float
    ) -> list[SliceCheck]:
        question = Check(
            problem=replace(problem, slices=slices),
            allocations={one.slice: allocations[one.slice] for one in slices},
        )
        try:
            return (await self._bus.request(subjects.CHECK, question, Checked, timeout_s=within_s)).slices
        except MicrooptError as error:
            self._metrics.checks_failed.inc()
            return [SliceCheck(slice=one.slice, error=str(error)) for one in slices]
