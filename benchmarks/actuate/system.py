"""A server and an actuator process over one place, and what the actuator says."""

import asyncio
import json
import os
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from actuate.place import RESOURCE, Place
from microopt import codec, streams, subjects
from microopt.broker import Broker, free_port
from microopt.bus import Bus
from microopt.messages import Actuation, Allocation, Interval
from microopt.settings import NatsSettings
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt.supervise import Child, Supervisor, role_command

POOL = "bench"
WITHIN_S = 60.0
REST_S = 0.02
HOUR_S = 3600.0


@dataclass
class System:
    """What a measurement works with."""

    bus: Bus
    place: Place
    supervisor: Supervisor
    url: str
    folder: Path
    http_port: int = 0
    seen: list[Actuation] = field(default_factory=list)
    _new: asyncio.Event = field(default_factory=asyncio.Event)

    async def start_actuator(self) -> None:
        """Start the actuator process and wait until it is ready."""
        self.http_port = free_port()
        table = self.place.table()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MICROOPT_")}
        environment |= {
            "NATS_URL": self.url,
            "MICROOPT_CONFIG": os.devnull,
            "MICROOPT_HTTP_PORT": str(self.http_port),
            "MICROOPT_LOG_LEVEL": "warning",
        }
        environment |= {f"MICROOPT_ACTUATOR_{key.upper()}": json.dumps(value) for key, value in table.items()}
        log = self.folder / "actuator.log"
        await self.supervisor.start(Child("actuator", role_command("actuator"), environment, log))
        await self.until(lambda: _get(self.http_port, "/readyz") is not None, "the actuator is not ready")

    async def put_slices(self, slices: list[str]) -> None:
        """Declare pool and slices."""
        resources = {RESOURCE: ResourceSpec(unit=self.place.unit, weight=1.0, capacity=1e9)}
        await self.bus.put_spec(streams.POOLS, POOL, PoolSpec(pool=POOL, resources=resources))
        bounds = {RESOURCE: Bounds(min(self.place.values), max(self.place.values))}
        sla = Sla(qos_threshold=1.0, degradation_threshold=0.1)
        for name in slices:
            spec = SliceSpec(slice=name, pool=POOL, sla=sla, bounds=bounds, model="bench", interval_s=HOUR_S)
            await self.bus.put_spec(streams.SLICES, name, spec)

    async def allocate(self, slice_: str, epoch: int, value: float) -> None:
        """Publish an allocation that holds from now on."""
        now = datetime.now(UTC)
        await self.bus.publish(
            Allocation(
                slice=slice_,
                pool=POOL,
                interval=Interval(now, HOUR_S),
                epoch=epoch,
                values={RESOURCE: value},
                valid_until=now + timedelta(seconds=2 * HOUR_S),
                optimizer="bench",
                status="optimal",
            )
        )

    async def reported(self, slice_: str, epoch: int, state: str) -> Actuation:
        """Wait for a report."""
        await self.until(lambda: self._find(slice_, epoch, state) is not None, f"{slice_} {epoch}: never {state}")
        found = self._find(slice_, epoch, state)
        assert found is not None  # just awaited
        return found

    async def until(self, probe: Callable[[], bool], what: str) -> None:
        """Wait until `probe` holds.

        Raises:
            RuntimeError: it does not within `WITHIN_S`.
        """
        try:
            async with asyncio.timeout(WITHIN_S):
                while not await asyncio.to_thread(probe):
                    await asyncio.sleep(REST_S)  # so that looking costs the actuator next to nothing
                    self._new.clear()
                    try:
                        async with asyncio.timeout(0.05):
                            await self._new.wait()
                    except TimeoutError:
                        continue
        except TimeoutError as error:
            raise RuntimeError(f"{what}; last seen: {self.seen[-3:]}") from error

    def writes(self) -> float:
        """Return how often the actuator process has written."""
        text = _get(self.http_port, "/metrics") or ""
        lines = (line for line in text.splitlines() if line.startswith("microopt_actuator_writes_total{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def listen(self) -> None:
        """Collect reports from now on."""

        async def collect(message: object) -> None:
            self.seen.append(codec.decode(message.data, Actuation, origin="bench"))  # type: ignore[attr-defined]
            self._new.set()

        await self.bus.nc.subscribe(subjects.ALL[Actuation], cb=collect)
        await self.bus.nc.flush()

    def _find(self, slice_: str, epoch: int, state: str) -> Actuation | None:
        wanted = (slice_, epoch, state)
        return next((r for r in reversed(self.seen) if (r.slice, r.epoch, r.state) == wanted), None)


@asynccontextmanager
async def system(place: Place) -> AsyncIterator[System]:
    """Run a server as `microopt up` runs it, and yield what works with it; the actuator is yet to be started."""
    with tempfile.TemporaryDirectory(prefix="microopt-bench-") as name:
        folder = Path(name)
        broker, supervisor = Broker(folder / "nats"), Supervisor()
        await broker.start()
        try:
            async with await Bus.connect(NatsSettings(url=broker.url), "bench", within_s=10) as bus:
                await streams.provision(bus.js)
                one = System(bus, place, supervisor, broker.url, folder)
                await one.listen()
                yield one
        finally:
            await supervisor.stop()
            await broker.stop()


def _get(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:  # our own port
            text: str = answer.read().decode()
            return text
    except OSError:
        return None
