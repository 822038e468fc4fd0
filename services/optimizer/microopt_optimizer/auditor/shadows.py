"""Asking the shadows: each problem that the router asked, beside everything else."""

import asyncio
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Final

from microopt import subjects
from microopt.agent import Context
from microopt.cancel import cancel
from microopt.errors import MicrooptError
from microopt.messages import Answer, Asked, Checked, Problem, SliceCheck, Solution
from microopt_optimizer.auditor.answers import checks, fitting, is_stale, judged, shadow_answer, usable
from microopt_optimizer.auditor.metrics import AuditorMetrics
from microopt_optimizer.auditor.settings import AuditorSettings

LEAVE_S: Final = 2.0


class Shadows:
    """Asks shadows in tasks of their own, a bounded number for each: one that hangs holds up no other."""

    def __init__(self, settings: AuditorSettings, context: Context, metrics: AuditorMetrics) -> None:
        self._settings = settings
        self._bus = context.bus
        self._log = context.log
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: Counter[str] = Counter()
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(settings.at_once))
        self._checking = asyncio.Lock()
        """The workers that check are the router's as well: shadows take one of them at a time."""

    async def close(self) -> None:
        """Wait a moment for shadows that still think, then leave them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LEAVE_S)
        for task in (left := [task for task in self._tasks if not task.done()]):
            self._log.warning("shadow_left", task=task.get_name())
        await cancel(left)

    def ask(self, asked: Asked) -> None:
        """Ask the problem's shadows; return at once."""
        for name in dict.fromkeys(asked.shadows):
            if self._open[name] >= self._settings.backlog:
                self._count(name, "skipped")
                self._log.warning(
                    "shadow_skipped", optimizer=name, pool=asked.problem.pool, waiting=self._open[name]
                )
                continue
            self._open[name] += 1
            task = asyncio.create_task(self._ask(asked.problem, name), name=f"shadow:{name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _count(self, optimizer: str, outcome: str) -> None:
        self._metrics.shadows.labels(optimizer, outcome).inc()

    async def _ask(self, problem: Problem, name: str) -> None:
        try:
            async with self._turns[name]:
                if is_stale(problem, datetime.now(UTC), self._settings.stale_after_s):
                    self._count(name, "stale")
                    return
                answer = await self._answer(problem, name)
            checked = await self._checks(problem, answer.solution) if answer.solution else []
            kept = fitting(judged(answer, problem, checked), self._bus.nc.max_payload)
            self._count(name, "failed" if kept.error else "refused" if kept.refused else "kept")
            await self._bus.publish(kept)
        except Exception:
            self._log.exception("shadow_failed", optimizer=name, pool=problem.pool)
        finally:
            self._open[name] -= 1

    async def _answer(self, problem: Problem, name: str) -> Answer:
        within_s = min(self._settings.answer_within_s, problem.interval.duration_s)
        solution, error, began_s = None, "", time.monotonic()
        try:
            solution = await self._bus.request(subjects.optimize(name), problem, Solution, timeout_s=within_s)
        except MicrooptError as failure:
            error = str(failure)
            self._log.warning("shadow_unanswered", optimizer=name, pool=problem.pool, error=error)
        latency_s = time.monotonic() - began_s
        self._metrics.shadow_s.labels(name).observe(latency_s)
        return shadow_answer(problem, name, solution, error, latency_s, datetime.now(UTC))

    async def _checks(self, problem: Problem, solution: Solution) -> list[SliceCheck]:
        """Return what the slice models say; nothing where nobody serves them."""
        found: list[SliceCheck] = []
        async with self._checking:
            for check in checks(problem, solution):
                within_s = self._settings.check_within_s
                try:
                    checked = await self._bus.request(subjects.CHECK, check, Checked, timeout_s=within_s)
                except MicrooptError as error:
                    self._metrics.checks.labels("failed").inc()
                    self._log.info("shadow_not_checked", optimizer=solution.optimizer, error=str(error))
                    break
                self._metrics.checks.labels("checked").inc()
                found += usable(check, checked.slices)
        return found
