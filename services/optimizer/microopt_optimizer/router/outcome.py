"""Publishing what came of an answer: allocations, and the answer itself for comparison."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from microopt.bus import Bus
from microopt.messages import Allocation, Answer, Forecast, Problem, SliceSolution, Solution
from microopt_optimizer.router.epochs import next_epoch
from microopt_optimizer.router.guard import Verdict
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.state import RouterState


class Outcome:
    """Publishes; each allocation that is stored becomes the slice's last one."""

    def __init__(self, bus: Bus, state: RouterState, metrics: RouterMetrics, grace: float) -> None:
        self._bus = bus
        self._state = state
        self._metrics = metrics
        self._grace = grace
        self._log = structlog.get_logger("microopt.router")

    async def allocate(
        self, problem: Problem, verdict: Verdict, optimizer: str, forecasts: Mapping[str, Forecast]
    ) -> None:
        """Publish an allocation for each accepted answer, all of one new epoch."""
        for name, why in verdict.refused.items():
            self._metrics.answers.labels(optimizer, "refused").inc()
            self._log.error("answer_refused", optimizer=optimizer, slice=name, reason=why)
        if verdict.strangers:
            self._log.error("answer_for_strangers", optimizer=optimizer, slices=verdict.strangers)
        if not verdict.accepted:
            return
        epoch = await next_epoch(self._bus, problem.pool)
        for name, answer in verdict.accepted.items():
            if name in self._state.slices:  # not removed while it was solved
                allocation = self._allocation(problem, answer, optimizer, epoch, forecasts[name])
                await self._bus.publish(allocation)
                self._state.allocations[name] = allocation
                self._count(allocation)

    async def keep(
        self, problem: Problem, solution: Solution, role: Literal["active", "shadow"], verdict: Verdict
    ) -> None:
        """Publish the answer for comparison."""
        await self._bus.publish(
            Answer(
                pool=problem.pool,
                interval=problem.interval,
                problem=problem.id,
                optimizer=solution.optimizer,
                role=role,
                at=datetime.now(UTC),
                solution=solution,
                refused=dict(verdict.refused),
            )
        )

    def _allocation(
        self, problem: Problem, answer: SliceSolution, optimizer: str, epoch: int, forecast: Forecast
    ) -> Allocation:
        grace = timedelta(seconds=self._grace * problem.interval.duration_s)
        return Allocation(
            slice=answer.slice,
            pool=problem.pool,
            interval=problem.interval,
            epoch=epoch,
            values=answer.allocation,
            valid_until=problem.interval.end + grace,
            optimizer=optimizer,
            status=answer.status,
            expected_degradation=answer.expected_degradation,
            forecast_made_at=forecast.made_at,
            reason=answer.reason,
        )

    def _count(self, allocation: Allocation) -> None:
        self._metrics.answers.labels(allocation.optimizer, "accepted").inc()
        if allocation.expected_degradation is not None:
            self._metrics.expected_degradation.labels(allocation.slice).set(allocation.expected_degradation)
        if allocation.status == "infeasible":
            self._metrics.infeasible.labels(allocation.slice).inc()
            self._log.warning("infeasible", slice=allocation.slice, reason=allocation.reason)
