"""The driver `tc` on the kernel of this machine, in a network namespace of its own."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator

import pytest

from microopt.errors import PermanentError, TemporaryError
from microopt.settings import Settings
from microopt_actuator.conformance import checks
from microopt_actuator.conformance.run import Values, conform
from microopt_actuator.drivers import tc
from microopt_actuator.drivers.base import WRITABLE
from microopt_actuator.drivers.tc import TcDriver
from microopt_actuator.drivers.tc_class import HtbClass
from microopt_actuator.drivers.tc_netlink import TcSocket
from microopt_actuator.settings import ActuatorSettings

pytestmark = pytest.mark.root

NETNS = f"microopt-test-{os.getpid()}"
TARGET = f"netns:{NETNS}/v0/1:10"

CLASSES = (
    "qdisc add dev v0 root handle 1: htb default 10",
    "class add dev v0 parent 1: classid 1:1 htb rate 100mbit ceil 100mbit",
    "class add dev v0 parent 1:1 classid 1:10 htb rate 10mbit ceil 10mbit burst 6k cburst 15k prio 3 quantum 3000 "
    "mpu 64 overhead 14",
    "class add dev v0 parent 1:1 classid 1:20 htb rate 5mbit ceil 20mbit",
)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def traffic_control(line: str) -> str:
    return run("tc", "-n", NETNS, *line.split())


def shown(class_id: str = "1:10") -> str:
    """Return a class as tc shows it."""
    (line,) = re.findall(rf"^class htb {class_id} .*$", traffic_control("-d class show dev v0"), re.MULTILINE)
    return " ".join(line.split())


@pytest.fixture
def netns() -> Iterator[None]:
    run("ip", "netns", "add", NETNS)
    try:
        run("ip", "-n", NETNS, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        yield
    finally:
        run("ip", "netns", "del", NETNS)


@pytest.fixture
def classes(netns: None) -> None:
    for line in CLASSES:
        traffic_control(line)


@pytest.fixture
async def driver() -> AsyncIterator[TcDriver]:
    settings = Settings({}, "test").table("actuator", ActuatorSettings)
    async with tc.opened(settings, None) as opened:
        yield opened


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[HtbClass]:
    """Collect what is sent to the kernel to change a class."""
    sent: list[HtbClass] = []
    change = TcSocket.change

    def count(self: TcSocket, wanted: HtbClass) -> None:
        sent.append(wanted)
        change(self, wanted)

    monkeypatch.setattr(TcSocket, "change", count)
    return sent


async def put(driver: TcDriver, value: float, target: str = TARGET):
    write = await driver.plan(target, value)
    await driver.apply(write)
    return write


@pytest.mark.usefixtures("classes")
@pytest.mark.parametrize("mbps", [0.1, 1.0, 12.3456789, 33.333333, 100.0])
async def test_the_kernel_holds_what_was_planned(driver: TcDriver, mbps: float):
    write = await put(driver, mbps)
    observed = await driver.read(TARGET)
    assert write.is_held_by(observed)
    assert observed == write.holds == pytest.approx(mbps, abs=4.01e-6)


@pytest.mark.usefixtures("classes")
async def test_only_rate_and_ceil_change(driver: TcDriver):
    before = shown()
    await put(driver, 25)
    after = shown()
    assert after == before.replace("rate 10Mbit", "rate 25Mbit").replace("ceil 10Mbit", "ceil 25Mbit")
    for kept in ("parent 1:1", "prio 3", "quantum 3000", "overhead 14", "burst 6Kb", "cburst 15Kb", "mpu 64b"):
        assert kept in after


@pytest.mark.usefixtures("classes")
async def test_a_burst_stays_what_it_is_however_often_and_far_the_rate_changes(driver: TcDriver):
    traffic_control("class add dev v0 parent 1: classid 1:2 htb rate 40gbit ceil 40gbit")
    traffic_control("class add dev v0 parent 1:2 classid 1:30 htb rate 100mbit burst 6k cburst 15k")
    for value in (17.3, 9876.5, 31_000, 0.5, 123.4, 8_000, 40_000, 100):
        await put(driver, value, f"netns:{NETNS}/v0/1:30")
    assert "burst 6Kb" in shown("1:30")
    assert "cburst 15Kb" in shown("1:30")


@pytest.mark.usefixtures("classes")
async def test_a_value_in_force_is_not_written_again(driver: TcDriver, changes: list[HtbClass]):
    assert (await put(driver, 25)).steps == (
        f"tc {TARGET}: rate and ceil 25 Mbit/s, burst 6144 and cburst 15360 bytes as before",
    )
    assert len(changes) == 1
    assert (await put(driver, 25)).steps == ()
    assert len(changes) == 1


@pytest.mark.usefixtures("classes")
async def test_a_value_above_the_parent_is_refused_before_anything_is_written(driver: TcDriver, changes):
    with pytest.raises(PermanentError, match=r"more than the ceil of class 1:1 above it \(100\).*raise that ceil"):
        await driver.plan(TARGET, 100.1)
    assert not changes
    assert await driver.read(TARGET) == 10.0


@pytest.mark.usefixtures("classes")
async def test_a_parent_that_was_narrowed_shows_in_the_reading(driver: TcDriver):
    write = await put(driver, 50)
    traffic_control("class change dev v0 parent 1: classid 1:1 htb rate 30mbit ceil 30mbit")
    observed = await driver.read(TARGET)
    assert observed == 30.0
    assert not write.is_held_by(observed)


@pytest.mark.usefixtures("classes")
async def test_a_class_that_may_borrow_has_no_one_rate_until_it_is_set(driver: TcDriver):
    target = f"netns:{NETNS}/v0/1:20"
    assert await driver.read(target) is None
    write = await put(driver, 5, target)
    assert write.is_held_by(await driver.read(target))
    assert "rate 5Mbit ceil 5Mbit" in shown("1:20")


@pytest.mark.usefixtures("classes")
async def test_rates_that_need_64_bits_are_held(driver: TcDriver):
    traffic_control("class add dev v0 parent 1: classid 1:2 htb rate 1gbit")
    write = await put(driver, 40_000, f"netns:{NETNS}/v0/1:2")
    assert await driver.read(f"netns:{NETNS}/v0/1:2") == write.holds == 40_000.0
    assert "rate 40Gbit ceil 40Gbit" in shown("1:2")
    await put(driver, 100, f"netns:{NETNS}/v0/1:2")
    assert "rate 100Mbit ceil 100Mbit" in shown("1:2")


@pytest.mark.usefixtures("classes")
async def test_a_missing_class_is_a_temporary_error_and_is_never_made(driver: TcDriver):
    write = await driver.plan(TARGET, 25)
    traffic_control("class del dev v0 classid 1:10")
    for attempt in (driver.plan(TARGET, 25), driver.apply(write), driver.read(TARGET)):
        with pytest.raises(TemporaryError, match="tc class add dev v0 parent PARENT classid 1:10 htb"):
            await attempt
    assert "1:10" not in traffic_control("class show dev v0")
    traffic_control("class add dev v0 parent 1:1 classid 1:10 htb rate 1mbit")
    await driver.apply(write)
    assert await driver.read(TARGET) == 25.0


@pytest.mark.usefixtures("classes")
async def test_an_interface_that_is_gone_is_a_temporary_error(driver: TcDriver):
    run("ip", "-n", NETNS, "link", "del", "v0")
    with pytest.raises(TemporaryError, match="interface v0 is gone and may come back"):
        await driver.read(TARGET)


async def test_a_namespace_that_is_gone_is_a_temporary_error_and_is_never_made(driver: TcDriver):
    with pytest.raises(TemporaryError, match=f"no network namespace {NETNS}"):
        await driver.read(TARGET)
    assert NETNS not in run("ip", "netns", "list")


@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("qdisc", ["tbf rate 10mbit burst 16k limit 30k", "pfifo"])
async def test_a_class_of_another_kind_is_a_permanent_error(driver: TcDriver, qdisc: str):
    traffic_control(f"qdisc add dev v0 root handle 1: {qdisc}")
    before = traffic_control("qdisc show dev v0")
    with pytest.raises(PermanentError, match="class 1:1 is not of kind htb; give v0 the qdisc htb"):
        await driver.plan(f"netns:{NETNS}/v0/1:1", 5)
    assert traffic_control("qdisc show dev v0") == before


PLAN = """
    import asyncio, sys
    from concurrent.futures import ThreadPoolExecutor
    from microopt_actuator.drivers.tc import TcDriver

    async def main():
        driver = TcDriver(ThreadPoolExecutor(1))
        write = await driver.plan(sys.argv[1], 25)
        print("planned", *write.steps, flush=True)
        sys.stdin.readline()
        await driver.apply(write)
        print("applied", await driver.read(sys.argv[1]), flush=True)

    asyncio.run(main())
"""


def process(*before: str, target: str = TARGET) -> subprocess.Popen:
    """Start a process that plans, waits for a line, and applies."""
    command = [*before, sys.executable, "-c", textwrap.dedent(PLAN), target]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.usefixtures("classes")
def test_a_process_killed_between_plan_and_apply_leaves_the_class_as_it_was():
    before = shown()
    with process() as planning:
        assert planning.stdout.readline().startswith("planned tc")
        planning.kill()
        assert planning.wait() == -signal.SIGKILL
    assert shown() == before


@pytest.mark.usefixtures("classes")
def test_without_netns_the_class_is_that_of_the_process_own_namespace():
    with process("ip", "netns", "exec", NETNS, target="v0/1:10") as applying:
        output, errors = applying.communicate("go\n")
    assert output.splitlines()[1:] == ["applied 25.0"], errors
    assert "rate 25Mbit" in shown()


@pytest.mark.usefixtures("classes")
def test_without_the_capability_the_error_names_it():
    without = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    with process("ip", "netns", "exec", NETNS, *without, target="v0/1:10") as applying:
        output, errors = applying.communicate("go\n")
    assert output.splitlines()[1:] == []
    assert "PermanentError" in errors
    assert "give the actuator the capability CAP_NET_ADMIN" in errors
    assert "rate 10Mbit" in shown()


ACCESS = """
    import asyncio, sys
    from concurrent.futures import ThreadPoolExecutor
    from microopt_actuator.drivers.tc import TcDriver

    async def main():
        driver = TcDriver(ThreadPoolExecutor(1))
        print(await driver.read("v0/1:10"))
        access = await driver.access("v0/1:10")
        print(access.writable, access.why)
        await driver.apply(await driver.plan("v0/1:10", 25))

    asyncio.run(main())
"""


@pytest.mark.usefixtures("classes")
async def test_with_the_capability_classes_can_be_written(driver: TcDriver):
    before = shown()
    assert await driver.access(TARGET) == WRITABLE
    assert shown() == before
    with pytest.raises(TemporaryError, match="no network namespace microopt-nowhere"):
        await driver.access("netns:microopt-nowhere/v0/1:10")


@pytest.mark.usefixtures("classes")
@pytest.mark.parametrize(
    "without",
    [
        ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"),
        ("unshare", "--user", "--map-root-user"),  # all capabilities, and none over the network
    ],
)
def test_without_the_capability_it_is_said_before_a_write_fails(without: tuple[str, ...]):
    command = ["ip", "netns", "exec", NETNS, *without, sys.executable, "-c", textwrap.dedent(ACCESS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    value, access = done.stdout.splitlines()
    assert value == "10.0"
    assert access.startswith("False tc v0/1:10: looking whether it can be changed: Operation not permitted; give")
    assert "PermanentError: tc v0/1:10: setting 25 Mbit/s: Operation not permitted" in done.stderr
    assert "rate 10Mbit" in shown()


@pytest.mark.usefixtures("classes")
async def test_many_at_once_are_all_served(driver: TcDriver):
    targets = [f"netns:{NETNS}/v0/1:{number:x}" for number in range(0x100, 0x140)]
    for target in targets:
        traffic_control(f"class add dev v0 parent 1:1 classid {target.rpartition('/')[2]} htb rate 1mbit")
    await asyncio.gather(*(put(driver, 2, target) for target in targets))
    assert await asyncio.gather(*(driver.read(target) for target in targets)) == [2.0] * len(targets)


@pytest.mark.usefixtures("classes")
async def test_the_driver_keeps_the_contract(changes: list[HtbClass]):
    report = await conform(Settings({}, "test"), "tc", TARGET, Values(), lambda _: None)
    assert report.ok, report
    assert report.before == 10.0
    assert len(changes) == 4 + checks.TURNS  # low, high, somebody else's, many, and what was before
    (refused,) = [outcome.said for outcome in report.outcomes if outcome.check == "wrong target"]
    assert "there is no such class now" in refused
    assert "classid 1:ffff htb" in refused
    assert "rate 10Mbit overhead 14 ceil 10Mbit" in shown()
    assert "1:ffff" not in traffic_control("class show dev v0")
