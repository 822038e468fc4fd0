"""The real processes, as an operator starts, kills and stops them."""

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

import microopt_actuator.__main__
import microopt_collector.__main__
import microopt_optimizer.auditor.__main__
import microopt_optimizer.router.__main__
import microopt_optimizer.worker.__main__
import microopt_testbed.__main__
from microopt import codec, desired, discovery, streams, subjects
from microopt.agent import Agent
from microopt.broker import free_port, is_listening
from microopt.messages import Actuation, Allocation, Interval, Problem
from microopt.specs import Route
from microopt.testing import eventually, running

COMMANDS = Path(sys.executable).parent
AGENTS = ("collector", "forecaster", "router", "optimizer", "actuator", "auditor")
ROLES = (*AGENTS, "testbed")
VALUES = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}
STOP_WITHIN_S = 30.0

COMMAND_OF = {
    "actuator": microopt_actuator.__main__.main,
    "auditor": microopt_optimizer.auditor.__main__.main,
    "collector": microopt_collector.__main__.main,
    "optimizer": microopt_optimizer.worker.__main__.main,
    "router": microopt_optimizer.router.__main__.main,
    "testbed": microopt_testbed.__main__.main,
}

NEEDED = {
    "actuator": {
        "MICROOPT_ACTUATOR_BINDINGS": json.dumps(
            [{"slice": "*", "resource": "*", "driver": "record", "target": "{slice}.{resource}"}]
        )
    },
    "testbed": {
        "MICROOPT_TESTBED_SLICES": json.dumps(
            [{"slice": "1-000001", "resources": {"gnb_cpu": 1000.0, "transport_bandwidth": 10.0}}]
        ),
        "MICROOPT_TESTBED_SLOT_S": "0.2",
        "MICROOPT_TESTBED_SLOTS_PER_INTERVAL": "1",
    },
}


class Process:
    """A command that runs, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, out: Path, err: Path) -> None:
        self.process = process
        self.port = port
        self.pid = process.pid
        self._out = out
        self._err = err

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def events(self) -> list[dict]:
        """Every whole line of the log; a line that is no JSON is an error."""
        whole, _, _ = self.err.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.status()

    async def status(self) -> int:
        return await asyncio.wait_for(self.process.wait(), STOP_WITHIN_S)

    async def ready(self) -> None:
        await eventually(self._is_ready, within_s=60, what=f"/readyz of {self.port}")

    async def _is_ready(self) -> bool:
        assert self.process.returncode is None, self.err
        return await asyncio.to_thread(_get, self.port, "/readyz") == 200


def _get(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
async def start(tmp_path):
    """Start `microopt-<role>` or `microopt <args>` in an empty folder; whatever is left over is killed."""
    started: list[Process] = []
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MICROOPT_") and k != "NATS_URL"}

    async def run(name: str, *args: str, port: int | None = None, **environ: str) -> Process:
        port = free_port() if port is None else port
        out, err = (tmp_path / f"{len(started)}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                str(COMMANDS / name),
                *args,
                env={**clean, "MICROOPT_HTTP_PORT": str(port), **environ},
                cwd=tmp_path,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        started.append(Process(process, port, out, err))
        return started[-1]

    yield run
    for one in started:
        if one.process.returncode is None:
            one.process.kill()
            await one.process.wait()


@pytest.fixture
def agent(start, broker):
    """Start the process of a role on the test's broker, with the settings that it cannot do without."""

    async def run(role: str, port: int | None = None, **environ: str) -> Process:
        needed = NEEDED.get(role, {})
        return await start(f"microopt-{role}", port=port, **{"NATS_URL": broker.url, **needed, **environ})

    return run


@pytest.fixture
def microopt(start, broker):
    """Run `microopt <args>` to its end on the test's broker."""

    async def run(*args: str, **environ: str) -> tuple[int, str, str]:
        process = await start("microopt", *args, **{"NATS_URL": broker.url, **environ})
        return await process.status(), process.out, process.err

    return run


@pytest.fixture
async def allocated(bus, make_pool, make_slice, make_forecast):
    """One slice in its interval: forecast and allocated."""
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    await bus.put_spec(streams.SLICES, "1-000001", make_slice("1-000001", interval_s=3600.0))
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
    start = datetime.now(UTC)
    forecast = make_forecast("1-000001", start=start, duration_s=3600.0)
    allocation = Allocation(
        slice="1-000001",
        pool="edge",
        interval=Interval(start, 3600.0),
        epoch=int(start.timestamp()),
        values=VALUES,
        valid_until=forecast.interval.end,
        optimizer="peak",
        status="optimal",
        expected_degradation=0.05,
    )
    await bus.publish(forecast)
    await bus.publish(allocation)
    return allocation


async def actuations(bus) -> list[Actuation]:
    state = (await bus.js.stream_info(streams.ACTUATIONS)).state
    messages = [await bus.js.get_msg(streams.ACTUATIONS, n) for n in range(1, state.last_seq + 1)]
    return [codec.decode(m.data, Actuation, origin=m.subject) for m in messages]


async def does_its_work(role: str, bus, since: int) -> None:
    """Wait for what shows that the process does more than run; `since` is how many reports there were before."""
    if role == "actuator":
        await eventually(lambda: _verified(bus, since))
    elif role == "optimizer":
        answer = await bus.nc.request("microopt.optimize.microopt", b"junk", timeout=10)
        assert answer.headers["Nats-Service-Error-Code"] == "400"
    elif role == "testbed":
        measured = await bus.nc.subscribe("testbed.measurement.1-000001")
        assert b'"snssai":"1-000001"' in (await measured.next_msg(timeout=20)).data
        await measured.unsubscribe()


async def _verified(bus, since: int) -> bool:
    reports = (await actuations(bus))[since:]
    return {r.resource for r in reports if r.state == "verified"} == set(VALUES)


@pytest.mark.parametrize("role", ROLES)
async def test_a_killed_process_is_ready_again_changes_no_allocation_and_ends_in_order(
    role, bus, agent, allocated
):
    first = await agent(role)
    await first.ready()
    await does_its_work(role, bus, since=0)
    assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    reports = len(await actuations(bus))

    second = await agent(role, port=first.port)
    await second.ready()
    await does_its_work(role, bus, since=reports)
    await asyncio.sleep(0.7)  # time for what must not happen
    assert await second.end() == 0

    assert (await bus.js.stream_info(streams.ALLOCATIONS)).state.messages == 1
    for report in await actuations(bus):
        assert report.requested == VALUES[report.resource]
        assert report.observed in (None, report.requested)
    for process in (first, second):
        assert [e for e in process.events if e["level"] != "info" and e["event"] != "dead_letter"] == []
        assert process.out == ""
    assert [e["event"] for e in second.events][-1] == "agent_stopped"


@pytest.mark.parametrize("role", ["collector", "router", "actuator", "auditor"])
async def test_a_process_ends_in_order_also_when_the_broker_is_gone(role, broker, bus, agent, allocated):
    process = await agent(role)
    await process.ready()
    await broker.kill()
    await eventually(lambda: any(e["event"] == "bus_disconnected" for e in process.events))
    assert await process.end() == 0
    assert "agent_stopped" in [e["event"] for e in process.events]
    assert "error" not in [e["level"] for e in process.events]


async def test_a_process_that_has_not_found_its_broker_yet_is_alive_not_ready_and_ends_in_order(
    start, unused_port
):
    process = await start("microopt-collector", NATS_URL=f"nats://127.0.0.1:{unused_port}")
    await eventually(lambda: is_listening("127.0.0.1", process.port), within_s=60)
    assert _get(process.port, "/healthz") == 200
    assert _get(process.port, "/readyz") == 503
    assert await process.end() == 0


@pytest.mark.parametrize("role", ROLES)
async def test_a_wrong_key_ends_the_process_with_status_2_and_one_line_that_names_it(role, start):
    variable = f"MICROOPT_{role.upper()}_NO_SUCH_KEY"
    process = await start(f"microopt-{role}", **{**NEEDED.get(role, {}), variable: "1"})
    assert await process.status() == 2
    [line] = process.err.splitlines()
    assert line.startswith(f"microopt-{role}: environment variable {variable}: [{role}] unknown key 'no_such_key'")


@pytest.mark.parametrize(
    ("role", "environ", "said"),
    [
        ("router", {"MICROOPT_HTTP_PROT": "1"}, "unknown key 'prot'; did you mean 'port'?"),
        ("router", {"MICROOPT_LOG_LEVEL": "loud"}, "MICROOPT_LOG_LEVEL: [log] Invalid enum value 'loud'"),
        ("router", {"MICROOPT_NATS_URI": "x"}, "unknown key 'uri'; did you mean 'url'?"),
        ("router", {"MICROOPT_ROUTERS_GRACE": "1"}, "MICROOPT_ROUTERS_GRACE: unknown table 'routers'"),
        ("router", {"MICROOPT_CONFIG": "none.toml"}, "none.toml: cannot be read"),
        ("router", {"MICROOPT_ROUTER_GRACE": "-1"}, "MICROOPT_ROUTER_GRACE: [router] Expected `float` >= 0.0"),
        ("collector", {"MICROOPT_COLLECTOR_SOURCES": '[{"kind": "mqtt"}]'}, "`topics` - at `$.sources[0]`"),
        ("collector", {"MICROOPT_COLLECTOR_SOURCES": "[]"}, "`$.sources`"),
        ("optimizer", {"MICROOPT_OPTIMIZER_SERVE": '["magic"]'}, "'magic' is not known here; choose one of"),
        ("actuator", {"MICROOPT_ACTUATOR_BINDINGS": '[{"slice": "1"}]'}, "`$.bindings[0]`"),
        ("auditor", {"MICROOPT_AUDITOR_KNOWN_SHARE": "0"}, "[auditor] Expected `float` > 0.0"),
        ("testbed", {}, "[testbed] Object missing required field `slices`"),
    ],
)
def test_a_wrong_setting_ends_the_command_with_status_2_and_one_line(role, environ, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in [v for v in os.environ if v.startswith("MICROOPT_")]:
        monkeypatch.delenv(variable)
    result = CliRunner().invoke(COMMAND_OF[role], env=environ)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith(f"microopt-{role}: ")
    assert said in line


async def test_a_file_of_settings_is_read_and_its_wrong_key_named(start, tmp_path):
    (tmp_path / "microopt.toml").write_text("[router]\ngahter_s = 1.0\n")
    process = await start("microopt-router")
    assert await process.status() == 2
    assert process.err == (
        "microopt-router: microopt.toml: [router] unknown key 'gahter_s'; did you mean 'gather_s'?\n"
    )


@pytest.mark.parametrize("role", ["router", "testbed"])
async def test_a_port_that_is_taken_ends_the_process_with_status_2_and_the_variable(role, agent):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await agent(role, port=port)
        assert await process.status() == 2
    [line] = process.err.splitlines()
    assert f"[http] port {port} on 127.0.0.1: Address already in use; set MICROOPT_HTTP_PORT" in line


def pids_of(marker: str) -> list[int]:
    """Return the processes whose command line holds `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if marker in command:
                found.append(int(entry.name))
    return found


async def test_up_runs_a_broker_on_loopback_starts_it_again_and_leaves_nothing_behind(
    start, tmp_path, unused_port
):
    store = tmp_path / "store"
    settings = {"MICROOPT_BROKER_PORT": str(unused_port), "MICROOPT_BROKER_STORE_DIR": str(store)}
    up = await start("microopt", "up", "--broker-only", **settings)
    await eventually(lambda: up.out)
    assert up.out == f"NATS with JetStream at nats://127.0.0.1:{unused_port}, store in {store}\n"
    assert is_listening("127.0.0.1", unused_port)
    [first] = pids_of(f"{store}/nats-server.conf")

    os.kill(first, signal.SIGKILL)
    [second] = await eventually(lambda: [p for p in pids_of(f"{store}/nats-server.conf") if p != first])
    await eventually(lambda: is_listening("127.0.0.1", unused_port))

    clash = await start("microopt", "up", "--broker-only", **settings)
    assert await clash.status() == 1
    assert f"port {unused_port} on 127.0.0.1 is in use; set MICROOPT_BROKER_PORT" in clash.err

    assert await up.end() == 0
    assert not lives(second)
    assert not is_listening("127.0.0.1", unused_port)


@pytest.mark.parametrize("variable", ["NATS_URL", "MICROOPT_NATS_URL"])
async def test_up_keeps_its_agents_running_on_the_broker_that_is_given(variable, start, broker):
    up = await start("microopt", "up", "collector", "router", port=0, **{variable: broker.url})

    def started(role: str) -> list[int]:
        return [e["pid"] for e in up.events if e["event"] == "child_started" and e["child"] == role]

    def connected(role: str) -> int:
        return sum(1 for e in up.events if e["event"] == "agent_started" and e["agent"] == role)

    await eventually(lambda: connected("collector") == connected("router") == 1, within_s=60)
    os.kill(started("collector")[0], signal.SIGKILL)
    await eventually(lambda: connected("collector") == 2, within_s=60)
    assert len(started("collector")) == 2
    assert len(started("router")) == 1
    ended = next(e for e in up.events if e["event"] == "child_ended")
    assert (ended["child"], ended["status"]) == ("collector", -signal.SIGKILL)

    assert await up.end() == 0
    assert not any(lives(pid) for role in ("collector", "router") for pid in started(role))
    assert broker.running


async def test_up_refuses_a_wrong_setting_and_an_unknown_role(start):
    wrong = await start("microopt", "up", MICROOPT_BROKER_PROT="1")
    assert await wrong.status() == 1
    assert wrong.err == (
        "microopt: environment variable MICROOPT_BROKER_PROT: [broker] unknown key 'prot'; did you mean 'port'?\n"
    )
    unknown = await start("microopt", "up", "collectr")
    assert await unknown.status() == 2
    assert "'collectr' is not one of" in unknown.err


FILE = """
pools:
  edge:
    resources:
      gnb_cpu: {unit: millicores, weight: 0.0002, capacity: 9000}
      transport_bandwidth: {unit: Mbit/s, weight: 0.02, capacity: 100}
slices:
  1-000001:
    pool: edge
    model: embb
    sla: {qos_threshold: 4, degradation_threshold: 0.1}
    bounds:
      gnb_cpu: {floor: 500, ceiling: 4500}
      transport_bandwidth: {floor: 5, ceiling: 50}
routes:
  edge: {active: microopt, shadows: [peak]}
"""


async def test_apply_puts_a_file_in_force_and_a_check_writes_nothing(microopt, bus, tmp_path):
    (tmp_path / "slices.yaml").write_text(FILE)
    assert await microopt("apply", "--check", "slices.yaml") == (
        0,
        "slices.yaml is right: 1 pools, 1 slices, 1 routes\n",
        "",
    )
    assert await microopt("status") == (0, "no slices: `microopt apply FILE`\n", "")
    for _ in range(2):
        assert await microopt("apply", "slices.yaml") == (
            0,
            "slices.yaml applied: 1 pools, 1 slices, 1 routes\n",
            "",
        )
    assert (await bus.js.stream_info("KV_routes")).state.messages == 1
    assert (await desired.get(bus, Route, "edge")).reason == "applied slices.yaml"
    assert await microopt("status") == (0, "1-000001 (pool edge): no allocation yet\n", "")
    (tmp_path / "slices.yaml").write_text(FILE.replace("floor: 500,", "flooor: 500,"))
    status, out, err = await microopt("apply", "slices.yaml")
    assert (status, out) == (1, "")
    assert err.startswith("microopt: slices.yaml: slices/1-000001: unknown key 'flooor'; did you mean 'floor'?")


async def test_apply_tells_what_it_ends_and_lets_the_same_canary_go_on(microopt, bus, tmp_path):
    file = tmp_path / "slices.yaml"
    canary = FILE.replace("shadows: [peak]", "canary: {optimizer: peak, share: 1.0}")
    file.write_text(canary)
    await microopt("apply", "slices.yaml")
    began = await desired.get(bus, Route, "edge")
    since = datetime(2026, 1, 1, tzinfo=UTC)  # as the auditor notes it
    running = replace(began, canary=replace(began.canary, since=since))
    await bus.put_spec(streams.ROUTES, "edge", running)
    told = "slices.yaml applied: 1 pools, 1 slices, 1 routes\n"
    assert await microopt("apply", "slices.yaml") == (0, told, "")
    assert await desired.get(bus, Route, "edge") == running
    await bus.put_spec(streams.ROUTES, "edge", replace(running, mode="frozen"))
    file.write_text(FILE)
    changes = "edge: shadow + peak; canary peak ended; mode frozen → apply\n"
    assert await microopt("apply", "slices.yaml") == (0, told + changes, "")


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("edga: {active: microopt}", "unknown pool 'edga'; pools: edge"),
        ("edge: {active: microopt, modes: {1-00000a: frozen}}", "unknown slice 1-00000a in pool edge"),
        ("edge: {active: microopt, canary: {optimizer: microopt, share: 1.0}}", "microopt is active already"),
    ],
)
async def test_a_route_of_what_does_not_exist_is_not_applied(microopt, bus, tmp_path, route, said):
    (tmp_path / "slices.yaml").write_text(FILE.replace("edge: {active: microopt, shadows: [peak]}", route))
    status, out, err = await microopt("apply", "slices.yaml")
    assert (status, out) == (1, "")
    assert said in err
    assert await desired.get_all(bus, Route) == ({}, [])


@pytest.fixture
async def peak_alive(broker, bus):
    """Announce the optimizer `peak`, so that nobody is warned that it is away."""
    worker = Agent("worker")
    worker.endpoint("peak", subjects.optimize("peak"), Problem)(lambda problem, _: problem)
    async with running(worker, broker.url):
        await eventually(lambda: _is_announced(bus, "peak"))
        yield


async def _is_announced(bus, name) -> bool:
    return not await discovery.absent(bus.nc, [name], 0.1)


@pytest.mark.usefixtures("peak_alive")
async def test_a_route_is_set_and_shown_and_an_unknown_pool_is_refused_with_those_there_are(
    microopt, bus, make_pool
):
    assert await microopt("route", "show") == (0, "no routes: `microopt route set POOL OPTIMIZER`\n", "")
    _, _, err = await microopt("route", "set", "edge", "peak")
    assert err == "microopt: unknown pool 'edge'; pools: none, see `microopt apply`\n"
    for name in ("edge", "core"):
        await bus.put_spec(streams.POOLS, name, make_pool(name))
    for unknown in ("edga", "*"):
        assert await microopt("route", "set", unknown, "peak") == (
            1,
            "",
            f"microopt: unknown pool {unknown!r}; pools: core, edge\n",
        )
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="microopt", shadows=("peak", "atlas")))
    changed = await microopt("route", "set", "edge", "peak", "--reason", "a test")
    assert changed == (0, "edge: microopt → peak; shadow − peak\n", "")
    status, out, _ = await microopt("route", "show")
    assert status == 0
    assert out.startswith("edge: active peak; shadows atlas; changed 20")
    assert out.endswith("; a test\n")


@pytest.mark.usefixtures("peak_alive")
async def test_a_route_that_cannot_be_read_is_shown_as_such_and_can_be_set_anew(microopt, bus, make_pool):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    await (await bus.js.key_value(streams.ROUTES)).put("edge", b"junk")
    status, _, err = await microopt("route", "show")
    assert status == 0
    assert "routes/edge: not a valid Route" in err
    status, _, err = await microopt("route", "set", "edge", "No Name")
    assert status == 2
    assert "'No Name' is no optimizer's name" in err
    assert await microopt("route", "set", "edge", "peak") == (0, "edge: no optimizer → peak\n", "")


async def test_status_tells_what_is_allocated_and_what_the_actuators_read_back(microopt, bus, allocated):
    report = Actuation(
        slice=allocated.slice,
        resource="gnb_cpu",
        epoch=allocated.epoch,
        state="verified",
        requested=2000.0,
        observed=1999.5,
        driver="cgroup",
        at=datetime.now(UTC),
    )
    await bus.publish(report)
    status, out, err = await microopt("status")
    assert (status, err) == (0, "")
    first, cpu, bandwidth = out.splitlines()
    assert first.startswith(
        f"1-000001 (pool edge): epoch {allocated.epoch} by peak, optimal, expected degradation 0.050 of 0.1"
    )
    assert cpu == "  gnb_cpu 2000: verified, read back 1999.5 by cgroup"
    assert bandwidth == "  transport_bandwidth 20: no actuator has reported"


async def test_dead_letters_are_printed_with_the_reason_and_harmless_to_a_terminal(microopt, bus):
    assert await microopt("dead") == (0, "no dead letters\n", "")
    for n in range(3):
        await bus.dead_letter(
            b"\x1b[31mred\nline %d\xff" % n, subject="a.b", error=ValueError(f"no {n}"), kind="T"
        )
    status, out, err = await microopt("dead", "--last", "2")
    assert (status, err) == (0, "")
    assert out == (
        "test ← a.b: ValueError: no 1\n  \\x1b[31mred\\nline 1\\xff\n"
        "test ← a.b: ValueError: no 2\n  \\x1b[31mred\\nline 2\\xff\n"
    )
    assert (await microopt("dead", "--last", "0"))[0] == 2
