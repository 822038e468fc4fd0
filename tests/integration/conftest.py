"""Real parts of the outside world, on loopback and for one test alone, and a sink that remembers."""

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import pytest
import pytest_asyncio
from aiohttp import web

from microopt.broker import free_port, is_listening
from microopt.testing import eventually
from microopt_collector.sources.base import Measurement, Rejected, Source


class Process:
    """A daemon that is started, killed and started again by a test."""

    def __init__(self, command: list[str], log: Path, port: int) -> None:
        self.port = port
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._spawn)
        await eventually(self._is_ready, what=f"{self._command[0]} is ready")

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def kill(self) -> None:
        await asyncio.to_thread(self._end, signal.SIGKILL)

    async def stop(self) -> None:
        await asyncio.to_thread(self._end, signal.SIGTERM)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        return is_listening("127.0.0.1", self.port)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def executable(name: str, *folders: str) -> str:
    found = shutil.which(name) or next((f"{f}/{name}" for f in folders if Path(f, name).exists()), None)
    assert found, f"{name} is missing: scripts/setup.sh installs it"
    return found


class Mosquitto(Process):
    """A real MQTT broker; `lines` are added to its configuration."""

    def __init__(self, folder: Path, *lines: str) -> None:
        port = free_port()
        config = folder / "mosquitto.conf"
        usual = [f"listener {port} 127.0.0.1", "user root", "persistence false"]
        if not any(line.startswith("allow_anonymous") for line in lines):
            usual.append("allow_anonymous true")
        config.write_text("\n".join([*usual, *lines, ""]))
        super().__init__([executable("mosquitto", "/usr/sbin"), "-c", str(config)], folder / "mosquitto.log", port)

    async def say(self, *messages: tuple[str, bytes], retain: bool = False, **client) -> None:
        async with aiomqtt.Client("127.0.0.1", self.port, **client) as connection:
            for topic, payload in messages:
                await connection.publish(topic, payload, qos=1, retain=retain)


@pytest_asyncio.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Callable[..., Mosquitto]]:
    """Make brokers of this test, ended with it; they are to be started."""
    made: list[Mosquitto] = []

    def make(*lines: str) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(made)}"
        folder.mkdir()
        made.append(Mosquitto(folder, *lines))
        return made[-1]

    yield make
    for broker in made:
        await broker.stop()


class Prometheus(Process):
    """A real Prometheus that scrapes `targets` (job → port) several times a second."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        port = free_port()
        jobs = "".join(
            f"  - job_name: {job}\n    static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
            for job, target in targets.items()
        )
        config = folder / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: 200ms, scrape_timeout: 150ms}}\nscrape_configs:\n{jobs}", encoding="utf-8"
        )
        command = [
            executable("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(command, folder / "prometheus.log", port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest_asyncio.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Callable[..., Prometheus]]:
    """Make Prometheus servers of this test, ended with it; they are to be started."""
    made: list[Prometheus] = []

    def make(**targets: int) -> Prometheus:
        folder = tmp_path / f"prometheus-{len(made)}"
        folder.mkdir()
        made.append(Prometheus(folder, targets))
        return made[-1]

    yield make
    for server in made:
        await server.kill()  # in order it takes seconds


class HttpPart:
    """A web server of the test; `handle` answers everything."""

    def __init__(self, handle: Callable) -> None:
        self.port = free_port()
        self._runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        await self._runner.cleanup()


@pytest_asyncio.fixture
async def http_part() -> AsyncIterator[Callable]:
    """Start web servers of this test, ended with it."""
    made: list[HttpPart] = []

    async def start(handle: Callable) -> HttpPart:
        made.append(HttpPart(handle))
        await made[-1].start()
        return made[-1]

    yield start
    for part in made:
        await part.stop()


class Recorder:
    """A sink that remembers everything, and knows every slice."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.rejected: list[tuple[str, str]] = []
        self.subjects: list[str] = []
        self.data: list[bytes] = []
        self.states: list[bool] = []
        self.hints: list[str] = []
        self.durations: list[float] = []

    def emit(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)

    def reject(self, data: bytes, *, subject: str, error: Rejected) -> None:
        self.rejected.append((error.reason, str(error)))
        self.subjects.append(subject)
        self.data.append(data)

    def up(self, is_up: bool) -> None:
        self.states.append(is_up)

    def took(self, seconds: float) -> None:
        self.durations.append(seconds)

    def hint(self, text: str) -> None:
        self.hints.append(text)

    @property
    def reasons(self) -> set[str]:
        return {reason for reason, _ in self.rejected}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def measuring(recorder: Recorder) -> Callable:
    """Run a source with the test's recorder; it must not end by itself meanwhile."""

    @contextlib.asynccontextmanager
    async def run(source: Source) -> AsyncIterator[Recorder]:
        task = asyncio.create_task(source.run(recorder))
        try:
            yield recorder
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run
