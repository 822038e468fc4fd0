"""The driver `systemd` where systemd runs as process 1; test_second_kernel.py makes such a place and runs this."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from microopt.errors import PermanentError, TemporaryError
from microopt.settings import Settings
from microopt.testing import eventually
from microopt_actuator.conformance.run import Values, conform
from microopt_actuator.drivers import systemd
from microopt_actuator.drivers.base import WRITABLE
from microopt_actuator.drivers.systemd import SystemdDriver
from microopt_actuator.settings import ActuatorSettings
from real.actuator import CPU, actuating, allocate, bound, put_pool, put_slice, reaches

CGROUPS = Path("/sys/fs/cgroup/system.slice")
GNB = "gnb.service"


def systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], check=True, timeout=60)


@pytest.fixture(params=["service", "scope"])
def unit(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run something in a unit of its own."""
    name = f"test.{request.param}"
    scope = ["--scope"] if request.param == "scope" else []
    # With them, systemd would first start all that a host has.
    alone = "--property=DefaultDependencies=no"
    command = ["systemd-run", "--quiet", *scope, f"--unit={name}", alone, "sleep", "1000"]
    with subprocess.Popen(command) as running:
        while not (CGROUPS / name).exists():
            assert running.poll() in (None, 0)
            time.sleep(0.05)
        yield name
        systemctl("stop", name)


@pytest.fixture
async def driver() -> AsyncIterator[SystemdDriver]:
    async with opened() as one:
        yield one


def opened(**own):
    table = {"systemd": {"timeout_s": 30.0, **own}}
    return systemd.opened(Settings({"actuator": table}, "test").table("actuator", ActuatorSettings), None)


def cpu_max(unit: str) -> str:
    return (CGROUPS / unit / "cpu.max").read_text().strip()


async def put(driver: SystemdDriver, value: float, unit: str):
    write = await driver.plan(unit, value)
    await driver.apply(write)
    return write


async def test_a_unit_without_a_limit_reads_as_none(driver, unit):
    assert await driver.read(unit) is None


async def test_the_cgroup_has_what_was_planned(driver, unit):
    for value, expected in ((1234, "124000 100000"), (10, "1000 100000"), (64_000, "6400000 100000")):
        write = await put(driver, value, unit)
        assert cpu_max(unit) == expected
        assert write.is_held_by(await driver.read(unit))
        assert (await driver.plan(unit, value)).steps == ()


async def test_the_limit_outlives_a_daemon_reload(driver, unit):
    write = await put(driver, 1234, unit)
    systemctl("daemon-reload")
    assert cpu_max(unit) == "124000 100000"
    assert write.is_held_by(await driver.read(unit))


async def test_the_limit_outlives_a_restart_of_the_unit(driver):
    await put(driver, 1234, GNB)
    systemctl("restart", GNB)
    await eventually(lambda: (CGROUPS / GNB / "cpu.max").exists())
    assert cpu_max(GNB) == "124000 100000"


async def test_what_somebody_else_wrote_to_the_cgroup_is_seen_and_overwritten(driver, unit):
    write = await put(driver, 1234, unit)
    for theirs in ("50000 100000", "max 100000"):
        (CGROUPS / unit / "cpu.max").write_text(theirs)
        assert not write.is_held_by(await driver.read(unit))
        await driver.apply(write)
        assert cpu_max(unit) == "124000 100000"


async def test_what_a_daemon_reload_undoes_of_the_driver_cgroup_is_put_back(broker, bus, unit, capsys):
    """Systemd has a limit of its own for the unit, and every reload writes it to the cgroup."""
    systemctl("set-property", "--runtime", unit, "CPUQuota=50%")
    await put_pool(bus)
    await put_slice(bus)
    binding = bound(CPU, "cgroup", f"/system.slice/{unit}")
    async with actuating(broker.url, bindings=[binding], check_every_s=1.0):
        await allocate(bus, 1, {CPU: 1234.0})
        await reaches(bus, 1, "verified")
        assert cpu_max(unit) == "123400 100000"
        ours = asyncio.create_task(asyncio.to_thread(seconds_without, "123400 100000", unit))
        await asyncio.to_thread(systemctl, "daemon-reload")
        await reaches(bus, 1, "verified", times=2)
        assert cpu_max(unit) == "123400 100000"
        with capsys.disabled():
            print(f"\nput back {await ours:.2f} s after systemd wrote its own")  # noqa: T201


def seconds_without(limit: str, unit: str, within_s: float = 10.0) -> float:
    """Return for how long a unit's limit was another, once it is back; 0 where that was too short to be seen."""
    began_s, until_s = None, time.monotonic() + within_s
    while time.monotonic() < until_s:
        now = cpu_max(unit)
        if now != limit and began_s is None:
            began_s = time.monotonic()
        if now == limit and began_s is not None:
            return time.monotonic() - began_s
        time.sleep(0.002)
    return 0.0


async def test_a_period_is_set_with_the_quota(unit):
    async with opened(period_us=33_333) as driver:
        write = await put(driver, 1234, unit)
        assert cpu_max(unit) == "41332 33333"
        assert write.is_held_by(await driver.read(unit))
        assert (await driver.plan(unit, 1234)).steps == ()


async def test_root_can_write(driver):
    assert await driver.access(GNB) == WRITABLE


async def test_a_unit_that_is_not_loaded_is_a_temporary_error(driver):
    with pytest.raises(TemporaryError, match=r"Unit none\.service not loaded"):
        await driver.plan("none.service", 1000)


async def test_a_unit_that_others_only_mention_is_a_temporary_error(driver):
    with pytest.raises(TemporaryError, match=r"Unit mentioned\.service not (found|loaded)"):
        await put(driver, 1000, "mentioned.service")


async def test_a_masked_unit_is_a_permanent_error(driver):
    with pytest.raises(PermanentError, match=r"Unit masked\.service is masked"):
        await driver._bus.set_runtime("masked.service", {systemd.QUOTA: 10_000})


async def test_a_property_that_systemd_does_not_know_is_a_permanent_error(driver):
    with pytest.raises(PermanentError, match="UnknownProperty"):
        await driver._bus.number(GNB, "CPUQuotaOfTomorrow")


async def test_the_driver_keeps_the_contract(unit):
    settings = Settings({"actuator": {"systemd": {"timeout_s": 30.0}}}, "test")
    report = await conform(settings, "systemd", unit, Values(500.0, 1230.0, 4000.0), lambda _: None)
    assert report.ok, report
    assert cpu_max(unit) == "400000 100000"
    (refused,) = [outcome.said for outcome in report.outcomes if outcome.check == "wrong target"]
    assert f"Unit microopt-none.{unit.rpartition('.')[2]} not loaded" in refused
    again = await conform(settings, "systemd", unit, Values(), lambda _: None)
    assert (again.ok, again.before) == (True, 4000.0), again
