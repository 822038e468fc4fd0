"""Telling what came of rounds, beside the rounds: it never holds one up."""

import asyncio
from typing import Final

import nats.errors
import structlog

from microopt.bus import TOGETHER, Bus
from microopt.errors import MicrooptError
from microopt.messages import Answer, Asked, Event
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.told import Told

WAITING: Final = 64
"""Rounds that wait to be told of; what comes on top is lost, counted and logged."""
DRAIN_S: Final = 1.5
ATTEMPTS: Final = 5


class Teller:
    """Publishes one round after the other; a message that cannot be stored keeps no other back."""

    def __init__(self, bus: Bus, metrics: RouterMetrics) -> None:
        self._bus = bus
        self._metrics = metrics
        self._queue: asyncio.Queue[Told] = asyncio.Queue(WAITING)
        self._log = structlog.get_logger("microopt.router")

    def put(self, told: Told) -> None:
        """Let a round be told of when it is its turn."""
        try:
            self._queue.put_nowait(told)
        except asyncio.QueueFull:
            self._lost(told, "too many rounds wait to be told of")

    async def run(self) -> None:
        """Tell for ever."""
        while True:
            told = await self._queue.get()
            try:
                await self._tell(told)
            except Exception:
                self._log.exception("round_not_told", pool=told.problem.pool)
                self._metrics.untold.labels(told.problem.pool).inc()
            finally:
                self._queue.task_done()

    async def drain(self) -> None:
        """Wait a little for what is still to be told."""
        try:
            await asyncio.wait_for(self._queue.join(), DRAIN_S)
        except TimeoutError:
            self._log.error("not_told_in_time", rounds=self._queue.qsize())

    async def _tell(self, told: Told) -> None:
        if (asked := told.asked) is not None:
            await self._publish(told, asked)
        for answer in told.answers:
            if answer.solution is not None and answer.refused:
                self._metrics.answers.labels(answer.optimizer, "refused").inc(len(answer.refused))
                for name, why in answer.refused.items():
                    self._log.error("answer_refused", optimizer=answer.optimizer, slice=name, reason=why)
            await self._publish(told, answer)
        await self._tell_events(told)

    async def _publish(self, told: Told, message: Asked | Answer) -> None:
        try:
            await self._bus.publish(message)
        except (MicrooptError, nats.errors.Error) as error:
            self._lost(told, f"{type(message).__name__}: {error or repr(error)}")

    async def _tell_events(self, told: Told) -> None:
        for event in told.events:
            if event.kind in ("fallback", "reverted"):
                self._metrics.fallbacks.labels(event.pool, event.kind).inc()
            self._log.warning(
                event.kind, pool=event.pool, slice=event.slice, optimizer=event.optimizer, reason=event.reason
            )
        left: list[Event] = told.events
        for attempt in range(ATTEMPTS):
            parts = (left[at : at + TOGETHER] for at in range(0, len(left), TOGETHER))
            left = [event for part in parts for event in await self._bus.publish_together(part)]
            if not left:
                return
            await asyncio.sleep(0.1 * 2**attempt)
        self._lost(told, f"{len(left)} events")

    def _lost(self, told: Told, what: str) -> None:
        self._metrics.untold.labels(told.problem.pool).inc()
        self._log.error("not_told", pool=told.problem.pool, what=what)
