"""The worker's shell: one endpoint for each solver that it serves."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Literal

import torch
from msgspec import Meta, Struct
from msgspec.structs import replace

from microopt import subjects
from microopt.agent import Agent, Context
from microopt.errors import ConfigError
from microopt.messages import Check, Checked, Problem, SliceSolution, Solution
from microopt.settings import Settings
from microopt.specs import ResourceSpec
from microopt_optimizer.solver.base import Solver
from microopt_optimizer.solver.registry import create
from microopt_optimizer.worker.check import Checker
from microopt_optimizer.worker.models import Models


class OptimizerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table [optimizer]."""

    serve: Annotated[tuple[str, ...], Meta(min_length=1)] = ("microopt", "peak")
    """Which optimizers this worker answers for."""
    models: dict[str, str] = {}
    """Files that win over the object store: model name → path."""
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    """CPU threads of one solve; more workers scale better than more threads."""
    check: bool = True
    """Whether this worker says what the slice models say of others' allocations, too (`microopt.check`)."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where networks are kept and problems solved; cuda is for `microopt` alone."""

    def __post_init__(self) -> None:
        if self.device == "cuda" and self.serve != ("microopt",):
            raise ValueError(f"device: cuda is for serve = ['microopt'] alone, not for {list(self.serve)}")


class Worker:
    """Loads the models of a problem and solves it beside the event loop, one at a time."""

    def __init__(self, settings: OptimizerSettings) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="solve")
        self._models = Models(settings.models, settings.device)
        self._checker = Checker(self._models)

    @asynccontextmanager
    async def lifespan(self, context: Context) -> AsyncIterator[None]:
        """Open the model store; wait for the solve in hand when leaving."""
        if self._settings.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "[optimizer] device: PyTorch finds no usable GPU; install its CUDA build, or set cpu"
            )
        torch.set_num_threads(self._settings.threads)
        self._models.open(context.bus)
        try:
            yield
        finally:
            await asyncio.to_thread(self._executor.shutdown)
            await asyncio.to_thread(self._checker.close)

    async def check(self, asked: Check, _: Context) -> Checked:
        """Answer what the slice models say of allocations, whatever is being solved."""
        return await self._checker.check(asked)

    async def solve(self, solver: Solver, name: str, problem: Problem, context: Context) -> Solution:
        """Answer `problem`; a slice whose model cannot be used is told so, and the others are solved."""
        models, broken = await self._models.usable(problem, problem.slices)
        solvable = _without(problem, set(broken))
        if solvable is None:
            solution = Solution(pool=problem.pool, interval=problem.interval, optimizer=name, slices=[])
        else:
            loop = asyncio.get_running_loop()
            solution = await loop.run_in_executor(self._executor, solver.solve, solvable, models)
        refused = [
            SliceSolution(slice=slice_, allocation={}, status="infeasible", reason=reason)
            for slice_, reason in broken.items()
        ]
        context.log.info("solved", optimizer=name, pool=problem.pool, solve_s=round(solution.solve_s, 4))
        return replace(solution, slices=[*solution.slices, *refused])


def _without(problem: Problem, broken: set[str]) -> Problem | None:
    """Return the problem of the other slices, with the capacity that the broken ones leave by keeping theirs."""
    slices = [s for s in problem.slices if s.slice not in broken]
    if not slices:
        return None
    kept: dict[str, float] = {}
    for item in problem.slices:
        if item.slice in broken:
            for resource, value in item.current.items():
                kept[resource] = kept.get(resource, 0.0) + value
    resources: dict[str, ResourceSpec] = {
        name: replace(spec, capacity=max(0.0, spec.capacity - kept.get(name, 0.0)))
        for name, spec in problem.resources.items()
    }
    return replace(problem, slices=slices, resources=resources)


def build(settings: Settings) -> Agent:
    """Return the worker.

    Raises:
        ConfigError: `[optimizer] serve` names a solver that is not known.
    """
    table = settings.table("optimizer", OptimizerSettings)
    worker = Worker(table)
    agent = Agent("optimizer", description="solves problems of slices", lifespan=worker.lifespan)
    for name in table.serve:
        handler = partial(worker.solve, create(name), name)
        agent.endpoint(name, subjects.optimize(name), Problem, metadata={"algorithm": name})(handler)
    if table.check:
        agent.endpoint("check", subjects.CHECK, Check)(worker.check)
    return agent
