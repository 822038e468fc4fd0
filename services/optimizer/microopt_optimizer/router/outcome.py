"""Publishing the allocations that came of a round."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import structlog

from microopt import subjects
from microopt.bus import TOGETHER, Bus
from microopt.errors import TemporaryError
from microopt.messages import (
    Allocation,
    Fallback,
    Forecast,
    SliceProblem,
)
from microopt_optimizer.router.decision import Decision
from microopt_optimizer.router.lease import NotLeading
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.standby import LAST, PEAK
from microopt_optimizer.router.state import RouterState
from microopt_optimizer.router.told import MAX_REASON_CHARS, Told

ATTEMPTS: Final = 5
FALLBACK: Final[dict[str, Fallback]] = {LAST: "last", PEAK: "peak"}


class Outcome:
    """Publishes; each allocation that is stored becomes the slice's last one."""

    def __init__(self, bus: Bus, state: RouterState, metrics: RouterMetrics, grace: float) -> None:
        self._bus = bus
        self._state = state
        self._metrics = metrics
        self._grace = grace
        self._log = structlog.get_logger("microopt.router")

    async def allocate(
        self, told: Told, decisions: Mapping[str, Decision], epoch: int, forecasts: Mapping[str, Forecast]
    ) -> None:
        """Publish an allocation for each decision, all of one epoch.

        Raises:
            NotLeading: another router has published meanwhile; nothing of what it said is overwritten.
            TemporaryError: not everything was stored; what was not stays undecided.
        """
        asked = {one.slice: one for one in told.problem.slices}
        wanted = [
            self._allocation(told, asked[name], decision, epoch, forecasts[name])
            for name, decision in decisions.items()
            if name in self._state.slices  # not removed while it was solved
        ]
        for part in (wanted[at : at + TOGETHER] for at in range(0, len(wanted), TOGETHER)):
            await self._store(part)

    async def _store(self, allocations: list[Allocation]) -> None:
        overtaken: list[str] = []
        for attempt in range(ATTEMPTS):
            last = {subjects.of(one): self._state.sequences.get(one.slice, 0) for one in allocations}
            stored = await self._bus.publish_next(allocations, last)
            left = []
            for allocation, one in zip(allocations, stored, strict=True):
                if one.fate in ("new", "duplicate"):
                    self._keep(allocation, one.sequence)
                elif one.fate == "overtaken":
                    overtaken.append(allocation.slice)
                else:
                    left.append(allocation)
            allocations = left
            if not allocations:
                break
            await asyncio.sleep(0.05 * 2**attempt)  # without a connection nothing was sent
        # What is there now is read before the next attempt: also what got no answer may have been stored.
        for name in (*overtaken, *(one.slice for one in allocations)):
            self._state.allocations.pop(name, None)
        if overtaken:
            raise NotLeading(f"slices {', '.join(overtaken)}: an allocation was published by somebody else")
        if allocations:
            raise TemporaryError(f"{len(allocations)} allocations were not stored")

    def _keep(self, allocation: Allocation, sequence: int) -> None:
        self._state.allocations[allocation.slice] = allocation
        self._state.sequences[allocation.slice] = sequence
        self._metrics.answers.labels(allocation.optimizer, "accepted").inc()
        if allocation.expected_degradation is not None:
            self._metrics.expected_degradation.labels(allocation.slice).set(allocation.expected_degradation)
        if allocation.status == "infeasible":
            self._metrics.infeasible.labels(allocation.slice).inc()
            self._log.warning("infeasible", slice=allocation.slice, reason=allocation.reason)

    def _allocation(
        self, told: Told, asked: SliceProblem, decision: Decision, epoch: int, forecast: Forecast
    ) -> Allocation:
        problem = told.problem
        grace = timedelta(seconds=self._grace * problem.interval.duration_s)
        answer = decision.answer
        reason = "; ".join(part for part in (answer.reason, *decision.changes) if part)
        return Allocation(
            slice=answer.slice,
            pool=problem.pool,
            interval=problem.interval,
            epoch=epoch,
            values=decision.values,
            valid_until=problem.interval.end + grace,
            optimizer=decision.optimizer,
            status=answer.status,
            expected_degradation=answer.expected_degradation,
            forecast_made_at=forecast.made_at,
            reason=reason[:MAX_REASON_CHARS],
            answered=answer.allocation,
            changes=tuple(change[:MAX_REASON_CHARS] for change in decision.changes),
            fallback=decision.fallback,
            problem=told.problem_id,
            asked_threshold=asked.sla.degradation_threshold,
        )
