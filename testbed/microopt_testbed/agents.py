"""The agents of microopt as processes on a broker of their own, and somebody who watches them."""

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from microopt import streams
from microopt.broker import Broker, free_port
from microopt.bus import Bus
from microopt.errors import ConfigError
from microopt.runtime import serve
from microopt.settings import NatsSettings, Settings
from microopt.supervise import Child, Supervisor, role_command, tied
from microopt_testbed.observe import Record, observer

BROKER_WITHIN_S: Final = 10.0
READY_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1


class Agents:
    """Starts agents and ends them.

    Args:
        url: the broker.
        logs: the folder of their logs, a file a role.
    """

    def __init__(self, url: str, logs: Path) -> None:
        self._url = url
        self._logs = logs
        self._supervisor = Supervisor()
        self._ports: dict[str, int] = {}

    async def start(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Start an agent a role, each with its table of settings, and wait until all are ready.

        Raises:
            ConfigError: one is not; the text names it and its log.
        """
        for role, table in tables.items():
            await self._start(role, table)
        await asyncio.gather(*(self._ready(role) for role in tables))

    async def kill(self, role: str) -> None:
        """Kill an agent; it is started again."""
        await self._supervisor.kill(role)

    async def stop(self) -> None:
        """End all of them in order."""
        await self._supervisor.stop()

    async def _start(self, role: str, table: Mapping[str, Any]) -> None:
        self._ports[role] = free_port()
        environment = _unconfigured()
        environment |= {
            "NATS_URL": self._url,
            "MICROOPT_HTTP_PORT": str(self._ports[role]),
            "MICROOPT_LOG_FORMAT": "json",
        }
        for key, value in table.items():
            if value is not None:
                text = json.dumps(value) if isinstance(value, list | dict) else str(value)
                environment[f"MICROOPT_{role.upper()}_{key.upper()}"] = text
        await self._supervisor.start(
            Child(role, tied(role_command(role)), environment, self._logs / f"{role}.log")
        )

    async def _ready(self, role: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not await asyncio.to_thread(_is_ready, self._ports[role]):
            if time.monotonic() > deadline:
                raise ConfigError(f"{role} is not ready; see {self._logs / f'{role}.log'}")
            await asyncio.sleep(_LOOK_EVERY_S)


@dataclass(frozen=True, slots=True)
class System:
    """A broker, a connection to it, and the agents on it, none of which runs yet."""

    url: str
    bus: Bus
    agents: Agents


@asynccontextmanager
async def system(store: Path, logs: Path, record: Record) -> AsyncIterator[System]:
    """Run a broker that keeps its streams in `store`, and write everything that is said into `record`."""
    async with AsyncExitStack() as stack:
        broker = Broker(store, short_lived=True)
        await broker.start()
        stack.push_async_callback(broker.stop)
        bus = await stack.enter_async_context(
            await Bus.connect(NatsSettings(url=broker.url), "testbed", within_s=BROKER_WITHIN_S)
        )
        await streams.provision(bus.js)
        await stack.enter_async_context(_observing(broker.url, record))
        agents = Agents(broker.url, logs)
        stack.push_async_callback(agents.stop)
        yield System(broker.url, bus, agents)


@asynccontextmanager
async def _observing(url: str, record: Record) -> AsyncIterator[None]:
    settings = Settings({"nats": {"url": url}, "http": {"port": 0}}, "testbed")
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


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):  # our own port
            return True
    except (urllib.error.URLError, OSError):
        return False
