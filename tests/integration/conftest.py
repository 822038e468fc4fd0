"""Real parts of the outside world, on loopback and for one test alone, and a sink that remembers."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiomqtt
import pytest
import pytest_asyncio
from aiohttp import web

from fakes.systemd import FakeSystemd, write_bus_config
from microopt.broker import Broker, free_port
from microopt.cancel import cancel
from microopt_collector.sources.base import Measurement, Rejected, Source
from real.actuator import ActuatorProcess
from real.cgroups import Cgroup
from real.htb import Htb
from real.process import Process, executable
from real.switch import Switch


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


class PrivateBus(Process):
    """A real D-Bus daemon, whose socket is in `folder`; `rule` is added to its policy."""

    def __init__(self, folder: Path, rule: str = "") -> None:
        self._socket = folder / "bus"
        config = write_bus_config(folder, rule)
        command = [executable("dbus-daemon"), f"--config-file={config}", "--nofork", "--nopidfile"]
        super().__init__(command, folder / "dbus.log", port=0)

    @property
    def address(self) -> str:
        return f"unix:path={self._socket}"

    def begin(self) -> None:
        self._socket.unlink(missing_ok=True)  # left by one that was killed
        super().begin()

    def is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._socket)) == 0


@pytest_asyncio.fixture
async def dbus(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[PrivateBus]:
    """Run a bus of this test; the fixture's parameter is a rule of its policy."""
    bus = PrivateBus(tmp_path, getattr(request, "param", ""))
    await bus.start()
    yield bus
    await bus.kill()


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    """Run an Open vSwitch of this test, with a bridge, in a network namespace of its own."""
    made = Switch(tmp_path, f"microopt-ovs-{os.getpid()}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def cgroup_of() -> Iterator[Callable[[str], Cgroup]]:
    """Make cgroups of this test, by name, whose limits the kernel enforces."""
    made: list[Cgroup] = []

    def make(name: str) -> Cgroup:
        made.append(Cgroup(f"microopt-test-{os.getpid()}-{name}"))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def htb() -> Iterator[Htb]:
    """Make an HTB class of this test."""
    made = Htb(f"microopt-htb-{os.getpid()}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest_asyncio.fixture
async def actuator_process(tmp_path: Path, broker: Broker) -> AsyncIterator[Callable[..., ActuatorProcess]]:
    """Make actuators' processes, killed with the test; they are to be started."""
    made: list[ActuatorProcess] = []

    def make(*bindings: dict[str, str], name: str = "actuator", inside: Iterable[str] = (), **table):
        own = {"bindings": list(bindings), **table}
        made.append(ActuatorProcess(tmp_path, broker.url, own, name=name, inside=inside))
        return made[-1]

    yield make
    for process in made:
        await process.kill()


@pytest_asyncio.fixture
async def fake_systemd(dbus: PrivateBus, tmp_path: Path) -> AsyncIterator[FakeSystemd]:
    """Let a fake of systemd answer on the test's bus; it has no units yet."""
    fake = FakeSystemd(tmp_path / "cgroup")
    await fake.start(dbus.address)
    yield fake
    await fake.stop()


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

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:  # noqa: S310
                return answer.status == 200
        except OSError:
            return False


class Exporter:
    """What Prometheus scrapes, served by a thread; `text` may change, or be made anew for each scrape."""

    def __init__(self, text: str | Callable[[], str] = "") -> None:
        self.text = text
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = exporter.text if isinstance(exporter.text, str) else exporter.text()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Prometheus]]:
    """Start a Prometheus for a module's tests: it takes seconds until it scrapes. Exporters by job."""
    made: list[Prometheus | Exporter] = []

    def start(**exporters: Exporter) -> Prometheus:
        made.extend(exporters.values())
        server = Prometheus(tmp_path_factory.mktemp("prometheus"), {j: e.port for j, e in exporters.items()})
        made.append(server)
        server.begin()
        return server

    yield start
    for part in reversed(made):
        if isinstance(part, Exporter):
            part.stop()
        else:
            part.end(signal.SIGKILL)  # in order it takes seconds


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
            await cancel([task])

    return run


@pytest.fixture(scope="session")
def exporter() -> type[Exporter]:
    """Give the class of what is scraped to modules, which cannot import from here."""
    return Exporter
