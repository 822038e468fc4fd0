"""Sending what became of each resource, without ever making those who hold the resources wait."""

import asyncio
from typing import Final

import structlog

from microopt.bus import TOGETHER, Bus
from microopt.errors import MicrooptError
from microopt.messages import Actuation

CAPACITY: Final = 10_000
FLUSH_S: Final = 2.0


class Reports:
    """A queue of reports; when the bus is away for long, the oldest are dropped."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Actuation] = asyncio.Queue(CAPACITY)
        self._log = structlog.get_logger("microopt.actuator.reports")

    def put(self, report: Actuation) -> None:
        """Queue `report`."""
        if self._queue.full():
            lost = self._queue.get_nowait()
            self._queue.task_done()
            self._log.error("report_dropped", slice=lost.slice, resource=lost.resource, state=lost.state)
        self._queue.put_nowait(report)

    async def run(self, bus: Bus) -> None:
        """Publish in order, for ever; what has gathered meanwhile goes together."""
        while True:
            reports = [await self._queue.get()]
            while len(reports) < TOGETHER and not self._queue.empty():
                reports.append(self._queue.get_nowait())
            try:
                await self._publish(bus, reports)
            finally:
                for _ in reports:
                    self._queue.task_done()

    async def _publish(self, bus: Bus, reports: list[Actuation]) -> None:
        left = reports if len(reports) == 1 else await bus.publish_together(reports)
        for report in left:
            try:
                await bus.publish(report)
            except MicrooptError as error:
                self._log.error("report_not_published", error=str(error), state=report.state)

    async def flush(self, bus: Bus) -> None:
        """Publish what is queued, as far as that goes within `FLUSH_S`."""
        sender = asyncio.create_task(self.run(bus), name="flush")
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._queue.join()
        except TimeoutError:
            self._log.warning("reports_not_flushed", left=self._queue.qsize())
        finally:
            sender.cancel()
