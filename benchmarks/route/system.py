"""A server as `microopt up` starts it, and the processes of router, workers and auditor beside it."""

import asyncio
import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microopt import streams
from microopt.broker import Broker, free_port
from microopt.bus import Bus
from microopt.settings import NatsSettings
from microopt.supervise import Child, Supervisor

STARTED_S = 120.0
MODEL = "bench"


@dataclass(frozen=True)
class Process:
    """One process: which module is run, and what in its table of the settings is not as by default."""

    module: str
    table: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def environment(self, model: Path) -> dict[str, str]:
        """Return its settings as environment; workers find the slice model there."""
        settings = {**self.settings, **({"models": {MODEL: str(model)}} if self.table == "optimizer" else {})}
        return {
            f"MICROOPT_{self.table.upper()}_{key.upper()}": json.dumps(value) for key, value in settings.items()
        }


def router(**settings: Any) -> Process:
    """Return a router."""
    return Process("microopt_optimizer.router", "router", settings)


def worker(*serve: str, check: bool = True) -> Process:
    """Return an optimizer worker that serves these solvers."""
    return Process("microopt_optimizer.worker", "optimizer", {"serve": serve, "check": check})


def auditor() -> Process:
    """Return an auditor."""
    return Process("microopt_optimizer.auditor", "auditor")


@dataclass
class System:
    """What a measurement works with; processes are started as they are needed."""

    bus: Bus
    model: Path
    url: str
    folder: Path
    supervisor: Supervisor
    children: list[Child] = field(default_factory=list)

    async def start(self, *processes: Process) -> None:
        """Start processes and wait until all of them are ready.

        Raises:
            RuntimeError: one ended by itself.
        """
        await asyncio.gather(*(self._start(one) for one in processes))

    def require_alive(self) -> None:
        """Make sure that no process had to be started again.

        Raises:
            RuntimeError: one ended by itself.
        """
        for child in self.children:
            if child.exits and child.log_path is not None:
                raise RuntimeError(
                    f"{child.command[-1]} ended: {child.log_path.read_text(errors='replace')[-2000:]}"
                )

    async def _start(self, process: Process) -> None:
        port = free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MICROOPT_")}
        environment |= {
            "NATS_URL": self.url,
            "MICROOPT_CONFIG": os.devnull,
            "MICROOPT_HTTP_PORT": str(port),
            "MICROOPT_LOG_LEVEL": "warning",
            **process.environment(self.model),
        }
        name = f"{process.table}-{len(self.children)}"
        command = [sys.executable, "-m", process.module]
        child = Child(name, command, environment, self.folder / f"{name}.log")
        self.children.append(child)
        await self.supervisor.start(child)
        async with asyncio.timeout(STARTED_S):
            while not await asyncio.to_thread(_is_ready, port):
                self.require_alive()
                await asyncio.sleep(0.1)


@asynccontextmanager
async def system(model: Path) -> AsyncIterator[System]:
    """Run a server and yield what works with it."""
    with tempfile.TemporaryDirectory(prefix="microopt-bench-") as name:
        folder = Path(name)
        broker, supervisor = Broker(folder / "nats", short_lived=True), Supervisor()
        await broker.start()
        try:
            async with await Bus.connect(NatsSettings(url=broker.url), "bench", within_s=10) as bus:
                await streams.provision(bus.js)
                yield System(bus, model, broker.url, folder, supervisor)
        finally:
            await supervisor.stop()
            await broker.stop()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:  # our own port
            return bool(answer.status == 200)
    except OSError:
        return False
