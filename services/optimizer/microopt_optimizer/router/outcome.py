"""Publishing what came of a round: allocations first, then what was asked and answered, and what was refused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from microopt import subjects
from microopt.bus import TOGETHER, Bus
from microopt.errors import TemporaryError
from microopt.messages import (
    Allocation,
    Answer,
    Asked,
    Event,
    Forecast,
    Problem,
    SliceCheck,
    SliceProblem,
)
from microopt_optimizer.router.asking import Reply
from microopt_optimizer.router.decision import Decision, Fallback
from microopt_optimizer.router.guard import Verdict
from microopt_optimizer.router.lease import NotLeading
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.standby import LAST, PEAK
from microopt_optimizer.router.state import RouterState

ATTEMPTS: Final = 5
MAX_REASON_CHARS: Final = 2_000
FALLBACK: Final[dict[str, Fallback]] = {LAST: "last", PEAK: "peak"}


@dataclass
class Told:
    """What is told of a round after its allocations: answers and events."""

    problem: Problem
    problem_id: str
    answers: list[Answer] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def answered(self, reply: Reply, role: str, verdict: Verdict, checks: Mapping[str, SliceCheck]) -> None:
        """Note an optimizer's answer, or that there was none."""
        self.answers.append(
            Answer(
                pool=self.problem.pool,
                interval=self.problem.interval,
                problem=self.problem_id,
                optimizer=reply.optimizer,
                role=role,  # type: ignore[arg-type]  # one of the literals, by who calls
                at=datetime.now(UTC),
                solution=reply.solution,
                error=reply.error[:MAX_REASON_CHARS],
                latency_s=reply.latency_s,
                refused={name: why[:MAX_REASON_CHARS] for name, why in verdict.refused.items()},
                checks=list(checks.values()),
            )
        )

    def event(self, kind: str, slice_: str | None, reason: str, optimizer: str = "") -> None:
        """Note something that an operator wants to know of."""
        self.events.append(
            Event(
                pool=self.problem.pool,
                kind=kind,  # type: ignore[arg-type]
                at=datetime.now(UTC),
                slice=slice_,
                optimizer=optimizer,
                reason=reason[:MAX_REASON_CHARS],
                interval=self.problem.interval,
            )
        )


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

    async def tell(self, told: Told, route_active: str, shadows: Sequence[str], epoch: int) -> None:
        """Publish what was asked, answered, refused and changed; it is told late rather than never."""
        others = tuple(answer.optimizer for answer in told.answers if answer.optimizer != route_active)
        asked = Asked(
            problem=told.problem,
            active=route_active,
            at=datetime.now(UTC),
            others=others,
            shadows=tuple(shadows),
            epoch=epoch,
        )
        await self._bus.publish(asked)
        for answer in told.answers:
            if answer.solution is not None and answer.refused:
                self._metrics.answers.labels(answer.optimizer, "refused").inc(len(answer.refused))
                for name, why in answer.refused.items():
                    self._log.error("answer_refused", optimizer=answer.optimizer, slice=name, reason=why)
            await self._bus.publish(answer)
        await self.tell_events(told.events)

    async def tell_events(self, events: Sequence[Event]) -> None:
        """Publish events, and log each."""
        for event in events:
            if event.kind in ("fallback", "reverted"):
                self._metrics.fallbacks.labels(event.pool, event.kind).inc()
            self._log.warning(
                event.kind, pool=event.pool, slice=event.slice, optimizer=event.optimizer, reason=event.reason
            )
        left = list(events)
        for _ in range(ATTEMPTS):
            left = [e for part in _parts(left) for e in await self._bus.publish_together(part)]
            if not left:
                return
        raise TemporaryError(f"{len(left)} events were not stored")

    async def _store(self, allocations: list[Allocation]) -> None:
        overtaken: list[str] = []
        for _ in range(ATTEMPTS):
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
        if overtaken:
            for name in overtaken:  # what is there now is read before the next attempt
                self._state.allocations.pop(name, None)
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


def _parts(events: list[Event]) -> Iterable[list[Event]]:
    return (events[at : at + TOGETHER] for at in range(0, len(events), TOGETHER))
