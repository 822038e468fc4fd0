"""Slices, a pool and the processes that work for them, on the server of one test."""

from datetime import UTC, datetime

import nats.js.errors

from microopt import codec, streams, subjects
from microopt.messages import Allocation, Answer, Held, Holdings
from microopt.specs import Route
from microopt.testing import eventually
from microopt_optimizer.router.readback import merged
from real.agent import AgentProcess


class World:
    """The processes of one test, its slices, and what was allocated."""

    def __init__(self, bus, broker, folder, make_forecast) -> None:
        self.bus = bus
        self.broker = broker
        self.slices: list[str] = []
        self._folder = folder
        self._make_forecast = make_forecast
        self._made: list[AgentProcess] = []

    async def start(self, role: str, name: str = "", **table) -> AgentProcess:
        """Start a process and return once it is ready."""
        name = name or f"{role}-{len(self._made)}"
        self._made.append(AgentProcess(role, self._folder, self.broker.url, table, name=name))
        process = self._made[-1]
        await process.start()
        return process

    async def end(self) -> None:
        for process in self._made:
            await process.kill()

    async def route(self, active: str) -> None:
        await self.bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active=active))

    async def forecast(self, duration_s: float, start: datetime | None = None) -> datetime:
        start = start or datetime.now(UTC)
        forecasts = [self._make_forecast(name, start=start, duration_s=duration_s) for name in self.slices]
        left = forecasts
        while left:
            left = await self.bus.publish_together(left)
        return start

    async def allocated(self, start: datetime) -> list[Allocation]:
        """Return the allocations of an interval, once every slice has one."""

        async def probe():
            found = [one for one in await self.allocations() if one.interval.start == start]
            return found if {one.slice for one in found} == set(self.slices) else None

        return await eventually(probe, within_s=40, every_s=0.1, what=f"allocations for {start}")

    async def allocations(self) -> list[Allocation]:
        """Return everything that was ever allocated, oldest first."""
        state = (await self.bus.js.stream_info(streams.ALLOCATIONS)).state
        messages = [await self.bus.js.get_msg(streams.ALLOCATIONS, n) for n in range(1, state.last_seq + 1)]
        return [codec.decode(m.data, Allocation, origin=m.subject) for m in messages]

    async def answer(self, optimizer: str) -> Answer | None:
        """Return an optimizer's last answer."""
        subject = f"microopt.solution.{optimizer}.edge"
        try:
            message = await self.bus.js.get_last_msg(streams.SOLUTIONS, subject)
        except nats.js.errors.NotFoundError:
            return None
        return codec.decode(message.data, Answer, origin=subject)

    async def in_force(self) -> dict[str, dict[str, float]]:
        """Return what the actuators hold."""
        answers = await self.bus.request_all(subjects.HELD, Held(), Holdings, within_s=5.0, quiet_s=0.2)
        return {name: holding.values for name, holding in merged(answers).items()}

    async def holds(self, values) -> None:
        async def probe():
            return await self.in_force() == values

        await eventually(probe, within_s=40, every_s=0.1, what="what is in force")
