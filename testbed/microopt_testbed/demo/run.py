"""Running the demo: broker and agents as processes, the day's events, and the end."""

import asyncio
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from microopt import desired, streams
from microopt.broker import Broker, free_port
from microopt.bus import Bus
from microopt.cancel import cancel
from microopt.cli.route import put as put_route
from microopt.errors import ConfigError
from microopt.runtime import serve
from microopt.settings import NatsSettings, Settings
from microopt.supervise import Child, Supervisor, role_command
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed.demo import history, scenario
from microopt_testbed.demo.observe import Record, observer
from microopt_testbed.demo.scenario import Scenario
from microopt_testbed.demo.summary import Event
from microopt_testbed.emulator_agent import EmulatorSettings

ROLES: Final = ("collector", "forecaster", "router", "optimizer", "actuator", "testbed")
READY_WITHIN_S: Final = 60.0
HEAD_START_S: Final = 18.0
"""Until the first slot: the agents start, and the forecaster reads the past; 6 s are enough on two idle cores."""


@dataclass
class DemoRun:
    """What the live table shows and the summary is made of."""

    plan: Scenario
    start_s: float = math.nan
    record: Record = field(default_factory=Record)
    events: list[Event] = field(default_factory=list)
    phase: str = "starting"

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
        self._supervisor = Supervisor()
        self._ports: dict[str, int] = {}

    async def play(self) -> None:
        """Start everything, play the day with its events, end everything in order."""
        async with AsyncExitStack() as stack:
            broker = Broker(self._store)
            await broker.start()
            stack.push_async_callback(broker.stop)
            bus = await stack.enter_async_context(
                await Bus.connect(NatsSettings(url=broker.url), "demo", within_s=10)
            )
            await streams.provision(bus.js)
            await desired.put(bus, self._plan.desired(self._peak))
            await model_store.publish(bus, scenario.MODEL, model_file.to_bytes(self._model))
            await stack.enter_async_context(_observing(broker.url, self._run.record))
            stack.push_async_callback(self._supervisor.stop)
            outside = self._outside()
            told = asyncio.Event()
            days = self._plan.history_days
            telling = asyncio.create_task(history.tell(bus, outside, days, told), name="history")
            stack.push_async_callback(cancel, [telling])
            await self._start_agents(broker.url, outside)
            await _require(told, telling, before_s=self._run.start_s)
            await self._play_day(bus)
            self._run.phase = "stopping"

    def _outside(self) -> EmulatorSettings:
        interval_s = self._plan.interval_s
        self._run.start_s = math.ceil((time.time() + HEAD_START_S) / interval_s) * interval_s
        return self._plan.emulator(self._run.start_s, self._peak)

    async def _start_agents(self, url: str, outside: EmulatorSettings) -> None:
        self._run.phase = "starting the agents, and telling them the last days"
        tables = {"actuator": scenario.actuator_table(), "testbed": msgspec.to_builtins(outside)}
        for role in ROLES:
            await self._start(role, url, tables.get(role, {}))
        await asyncio.gather(*(self._ready(role) for role in ROLES))

    async def _start(self, role: str, url: str, table: dict[str, Any]) -> None:
        self._ports[role] = free_port()
        environment = _unconfigured()
        environment |= {
            "NATS_URL": url,
            "MICROOPT_HTTP_PORT": str(self._ports[role]),
            "MICROOPT_LOG_FORMAT": "json",
        }
        for key, value in table.items():
            if value is not None:
                text = json.dumps(value) if isinstance(value, list | dict) else str(value)
                environment[f"MICROOPT_{role.upper()}_{key.upper()}"] = text
        log_path = self._logs / f"{role}.log"
        await self._supervisor.start(Child(role, role_command(role), environment, log_path))

    async def _ready(self, role: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not await asyncio.to_thread(_is_ready, self._ports[role]):
            if time.monotonic() > deadline:
                raise ConfigError(f"{role} is not ready; see {self._logs / f'{role}.log'}")
            await asyncio.sleep(0.1)

    async def _play_day(self, bus: Bus) -> None:
        self._run.phase = "running"
        plan = self._plan
        # In the middle of the interval before, so that the very next decision is the new optimizer's.
        await _sleep_until(self._at(plan.swap_at - 0.5))
        await self._swap(bus)
        # Right before the next forecasts are made: the worst moment.
        await _sleep_until(self._at(plan.kill_at) - 8 * plan.slot_s)
        await self._kill()
        # A little more than the day: the collector publishes a slot after it has ended.
        await _sleep_until(self._at(plan.intervals) + 4 * plan.slot_s + 0.5)

    def _at(self, interval: float) -> float:
        return self._run.start_s + interval * self._plan.interval_s

    async def _swap(self, bus: Bus) -> None:
        await put_route(bus, scenario.POOL, "microopt", by="demo", reason="the demo's swap")
        self._run.events.append(Event("routed from peak to microopt", self._plan.swap_at, {}))

    async def _kill(self) -> None:
        await self._supervisor.kill("optimizer")
        self._run.events.append(Event("optimizer process killed (SIGKILL)", self._plan.kill_at, {}))


@asynccontextmanager
async def _observing(url: str, record: Record) -> AsyncIterator[None]:
    settings = Settings({"nats": {"url": url}, "http": {"port": 0}}, "demo")
    stop = asyncio.Event()
    task = asyncio.create_task(serve(observer(record), settings, stop), name="observer")
    try:
        yield
    finally:
        stop.set()
        await task


def _unconfigured() -> dict[str, str]:
    """Return this process's environment without settings of microopt: those are for live agents."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MICROOPT_")}
    data = {name: os.environ[name] for name in ("MICROOPT_DATA",) if name in os.environ}
    return {**kept, **data, "MICROOPT_CONFIG": os.devnull}


async def _require(told: asyncio.Event, telling: asyncio.Task[None], *, before_s: float) -> None:
    """Wait until the past is told, at the latest at the Unix time `before_s`."""
    try:
        await asyncio.wait_for(told.wait(), before_s - time.time())
    except TimeoutError as error:
        if telling.done():
            await telling  # it failed, and says why
        raise ConfigError(
            "this machine is too slow for the demo's pace, or busy; use a longer --interval-s"
        ) from error


async def _sleep_until(unix_s: float) -> None:
    await asyncio.sleep(max(0.0, unix_s - time.time()))


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):  # our own port
            return True
    except (urllib.error.URLError, OSError):
        return False
