"""One trial: so many messages a second for some seconds, through the collector or the bare clients."""

import asyncio
import os
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
from nats.js.api import StorageType, StreamConfig
from servers import mosquitto, nats_server

from microopt import streams, subjects
from microopt.broker import free_port
from microopt.bus import Bus
from microopt.messages import Telemetry
from microopt.replay import last_sequence, replay
from microopt.settings import NatsSettings
from microopt.specs import Bounds, Sla, SliceSpec

HERE = Path(__file__).parent
LATENESS_S = 2.0
SETTLE_S = LATENESS_S + 3.0
STARTED_S = 30.0
SOURCES = {
    "nats": '[[collector.sources]]\nkind = "testbed"\n',
    "mqtt": (
        '[[collector.sources]]\nkind = "mqtt"\nport = {port}\ntopics = ["slice/+/kpi"]\nslice_field = "snssai"\n'
        'time_field = "timestamp"\nusers_field = "ues"\nqos_field = "dl_thpt_per_ue_mbps"\n'
    ),
}

Kind = Literal["nats", "mqtt"]
Count = Callable[[], Awaitable[int]]


class Outcome(msgspec.Struct, frozen=True):
    """What became of a trial; the CPU is that of the consuming process alone."""

    said: int
    stored: int
    seconds: float
    cpu_s: float
    rss_mb: float

    @property
    def is_sustained(self) -> bool:
        """Return whether practically all that was said was stored soon after."""
        return self.stored >= 0.995 * self.said


async def run(kind: Kind, *, bare: bool, rate: float, seconds: float, slices: int) -> Outcome:
    """Run servers, load and consumer, and count what was stored."""
    slot_s = slices / rate
    with tempfile.TemporaryDirectory(prefix="microopt-bench-") as name:
        folder = Path(name)
        async with nats_server(folder) as url, mosquitto(folder) as port:
            consumer = _bare(kind, url, port) if bare else _collector(kind, url, port, folder, slices, slot_s)
            async with consumer as (process, stored):
                before_s = _cpu_s(process.pid)
                address = url if kind == "nats" else str(port)
                said = await _load(kind, address, rate, seconds, slices, slot_s)
                await asyncio.sleep(SETTLE_S)
                cpu_s = _cpu_s(process.pid) - before_s
                return Outcome(said, await stored(), seconds, cpu_s, _rss_mb(process.pid))


@asynccontextmanager
async def _collector(
    kind: Kind, url: str, port: int, folder: Path, slices: int, slot_s: float
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Count]]:
    async with await Bus.connect(NatsSettings(url=url), "bench", within_s=STARTED_S) as bus:
        await streams.provision(bus.js)
        kv = await bus.js.key_value(streams.SLICES)
        for n in range(1, slices + 1):
            spec = _spec(f"1-{n:06x}", slot_s)
            await kv.put(spec.slice, msgspec.json.encode(spec))
        http_port = free_port()
        config = folder / "microopt.toml"
        lateness = f"[collector]\nlateness_slots = {LATENESS_S / slot_s}\n"
        config.write_text(lateness + SOURCES[kind].format(port=port))
        env = {
            **os.environ,
            "NATS_URL": url,
            "MICROOPT_HTTP_PORT": str(http_port),
            "MICROOPT_CONFIG": str(config),
            "MICROOPT_LOG_LEVEL": "error",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "microopt_collector", env=env, stdin=asyncio.subprocess.DEVNULL
        )
        try:
            await _ready(http_port)
            await asyncio.sleep(1.0)  # its sources subscribe
            yield process, lambda: _complete(bus)
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def _bare(kind: Kind, url: str, port: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, Count]]:
    async with await Bus.connect(NatsSettings(url=url), "bench", within_s=STARTED_S) as bus:
        await bus.js.add_stream(StreamConfig(name="RAW", subjects=["raw.*"], storage=StorageType.FILE))
        command = [sys.executable, str(HERE / "raw.py"), kind, url] + ([str(port)] if kind == "mqtt" else [])
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)

        async def stored() -> int:
            return (await bus.js.stream_info("RAW")).state.messages

        try:
            assert process.stdout is not None
            await process.stdout.readline()
            yield process, stored
        finally:
            process.terminate()
            await process.wait()


async def _load(kind: Kind, address: str, rate: float, seconds: float, slices: int, slot_s: float) -> int:
    arguments = [kind, address, str(rate), str(seconds), str(slices), str(slot_s)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "load.py"), *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return int(output)


def _spec(name: str, slot_s: float) -> SliceSpec:
    return SliceSpec(
        slice=name,
        pool="edge",
        sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
        bounds={"gnb_cpu": Bounds(500.0, 4500.0)},
        model="embb",
        interval_s=60.0,
        slot_s=slot_s,
    )


async def _complete(bus: Bus) -> int:
    """Return how many complete slots are stored."""
    last = await last_sequence(bus, streams.TELEMETRY)
    subject = subjects.ALL[Telemetry]
    complete = 0
    async for messages in replay(bus, streams.TELEMETRY, subject, start=1, last=last):
        complete += sum(b'"quality":"missing"' not in message.data for message in messages)
    return complete


async def _ready(http_port: int) -> None:
    for _ in range(int(STARTED_S / 0.1)):
        try:
            await asyncio.to_thread(_get, f"http://127.0.0.1:{http_port}/readyz")
        except OSError:
            await asyncio.sleep(0.1)
        else:
            return
    raise RuntimeError("the collector does not become ready")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # our own
        return answer.read().decode()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3
