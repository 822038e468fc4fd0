"""Running an agent inside a test, on the test's own broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from microopt.agent import Agent
from microopt.runtime import serve
from microopt.settings import Settings


class RunningAgent:
    """An agent that runs in this event loop."""

    def __init__(self, task: asyncio.Task[None], stop: asyncio.Event) -> None:
        self.task = task
        self._stop = stop

    async def stop(self) -> None:
        """End it in order, as SIGTERM would; an error that killed it is raised here."""
        self._stop.set()
        await self.task


@asynccontextmanager
async def running(agent: Agent, url: str, **tables: dict[str, Any]) -> AsyncIterator[RunningAgent]:
    """Run `agent` against the broker at `url`; `tables` are its settings. Stops it on leaving."""
    settings = Settings({"nats": {"url": url}, "http": {"port": 0}, **tables}, origin="test")
    stop = asyncio.Event()
    task = asyncio.create_task(serve(agent, settings, stop), name=f"agent:{agent.name}")
    try:
        yield RunningAgent(task, stop)
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
