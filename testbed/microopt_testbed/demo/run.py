"""Running the demo: broker and agents as processes, the day's events, and the end."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from microopt import desired
from microopt.bus import Bus
from microopt.cancel import cancel
from microopt.cli.route import put as put_route
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed import history
from microopt_testbed.agents import Agents, System, system
from microopt_testbed.demo import scenario
from microopt_testbed.demo.scenario import Scenario
from microopt_testbed.demo.summary import Event
from microopt_testbed.emulator_agent import EmulatorSettings
from microopt_testbed.observe import Record

HEAD_START_S: Final = 24.0
"""Until the first slot, from when the agents are ready: their store takes the past as fast as its disk does."""


@dataclass
class DemoRun:
    """What the live table shows and the summary is made of."""

    plan: Scenario
    start_s: float = math.nan
    record: Record = field(default_factory=Record)
    events: list[Event] = field(default_factory=list)
    phase: str = "starting"
    url: str = ""
    """The broker, for whoever wants to look around."""

    @property
    def interval(self) -> int:
        """Return the interval that is played now; negative before the first."""
        return math.floor((time.time() - self.start_s) / self.plan.interval_s)


class Demo:
    """The system under demonstration."""

    def __init__(self, run: DemoRun, model: TrainedModel, peak: dict[str, float], logs: Path, store: Path) -> None:
        self._run = run
        self._plan = run.plan
        self._model = model
        self._peak = peak
        self._logs = logs
        self._store = store

    async def play(self) -> None:
        """Start everything, play the day with its events, end everything in order."""
        async with system(self._store, self._logs, self._run.record) as one:
            self._run.url = one.url
            await desired.put(one.bus, self._plan.desired(self._peak))
            await model_store.publish(one.bus, scenario.MODEL, model_file.to_bytes(self._model))
            self._run.phase = "starting the agents"
            await one.agents.start(scenario.tables(self._plan))
            self._run.phase = "telling them the last days"
            outside = self._outside()
            told = asyncio.Event()
            days = self._plan.history_days
            telling = asyncio.create_task(history.tell(one.bus, outside, days, told), name="history")
            try:
                await one.agents.start({"testbed": msgspec.to_builtins(outside)})
                await history.wait_until_told(told, telling, before_s=self._run.start_s)
                await self._play_day(one)
            finally:
                await cancel([telling])
            self._run.phase = "stopping"

    def _outside(self) -> EmulatorSettings:
        interval_s = self._plan.interval_s
        self._run.start_s = math.ceil((time.time() + HEAD_START_S) / interval_s) * interval_s
        return self._plan.emulator(self._run.start_s, self._peak)

    async def _play_day(self, one: System) -> None:
        self._run.phase = "running"
        plan = self._plan
        # In the middle of the interval before, so that the very next decision is the new optimizer's.
        await _sleep_until(self._at(plan.swap_at - 0.5))
        await self._swap(one.bus)
        # Right before the next forecasts are made: the worst moment.
        await _sleep_until(self._at(plan.kill_at) - 8 * plan.slot_s)
        await self._kill(one.agents)
        # A little more than the day: the collector publishes a slot after it has ended.
        await _sleep_until(self._at(plan.intervals) + 4 * plan.slot_s + 0.5)

    def _at(self, interval: float) -> float:
        return self._run.start_s + interval * self._plan.interval_s

    async def _swap(self, bus: Bus) -> None:
        await put_route(bus, scenario.POOL, "microopt", by="demo", reason="the demo's swap")
        self._run.events.append(Event("routed from peak to microopt", self._plan.swap_at, {}))

    async def _kill(self, agents: Agents) -> None:
        await agents.kill("optimizer")
        self._run.events.append(Event("optimizer process killed (SIGKILL)", self._plan.kill_at, {}))


async def _sleep_until(unix_s: float) -> None:
    await asyncio.sleep(max(0.0, unix_s - time.time()))
