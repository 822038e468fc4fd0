"""The driver `systemd` on a real bus of its own, where a fake of systemd answers."""

import asyncio
import contextlib
import math
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Message
from dbus_fast.aio import MessageBus

from fakes.systemd import INFINITY_US, PERIOD, QUOTA, FakeSystemd
from microopt.errors import PermanentError, TemporaryError
from microopt.settings import Settings
from microopt.testing import eventually
from microopt_actuator.drivers import systemd
from microopt_actuator.drivers.base import WRITABLE
from microopt_actuator.drivers.systemd import SystemdDriver
from microopt_actuator.settings import ActuatorSettings

GNB, UPF = "srsran-gnb.service", "upf@1.service"
POD = "kubepods-pod1.slice"


@asynccontextmanager
async def opened(address: str, root: Path, **changes) -> AsyncIterator[SystemdDriver]:
    table = {"systemd": {"address": address, "root": str(root), "timeout_s": 10.0, **changes}}
    settings = Settings({"actuator": table}, "test").table("actuator", ActuatorSettings)
    async with systemd.opened(settings, None) as one:
        yield one


@pytest.fixture
async def driver(dbus, tmp_path: Path) -> AsyncIterator[SystemdDriver]:
    async with opened(dbus.address, tmp_path / "cgroup") as one:
        yield one


async def put(driver: SystemdDriver, value: float, target: str = GNB):
    write = await driver.plan(target, value)
    await driver.apply(write)
    return write


@pytest.mark.parametrize(("value", "holds"), [(1500, 1500), (1500.5, 1510), (0.4, 10), (128_000, 128_000)])
@pytest.mark.parametrize("target", [GNB, UPF, POD, r"cri-containerd-0a\x2d1.scope"])
async def test_systemd_holds_what_was_planned_in_whole_percents(fake_systemd, driver, target, value, holds):
    unit = fake_systemd.add(target)
    write = await put(driver, value, target)
    assert unit.properties[QUOTA] == holds * 1000
    assert write.holds == await driver.read(target) == holds
    assert write.is_held_by(await driver.read(target))


async def test_a_plan_says_what_would_be_written_and_writes_nothing(fake_systemd, driver):
    fake_systemd.add(GNB)
    write = await driver.plan(GNB, 1234)
    assert write.steps == (f"systemctl set-property --runtime {GNB} CPUQuota=124%",)
    assert fake_systemd.sets == []


async def test_what_is_set_ends_with_the_boot_and_outlives_a_daemon_reload(fake_systemd, driver):
    fake_systemd.add(GNB)
    write = await put(driver, 1234)
    assert fake_systemd.sets == [(GNB, True, {QUOTA: 1_240_000})]
    fake_systemd.daemon_reload()
    assert write.is_held_by(await driver.read(GNB))


async def test_a_value_in_force_is_not_set_again(fake_systemd, driver):
    fake_systemd.add(GNB)
    await put(driver, 1500)
    again = await put(driver, 1500)
    assert again.steps == ()
    assert len(fake_systemd.sets) == 1


async def test_a_unit_without_a_limit_reads_as_none(fake_systemd, driver):
    fake_systemd.add(GNB)
    assert await driver.read(GNB) is None


@pytest.mark.parametrize("theirs_us", [700_000, INFINITY_US])
async def test_a_limit_that_somebody_else_set_is_seen_and_overwritten(fake_systemd, driver, theirs_us):
    unit = fake_systemd.add(GNB)
    write = await put(driver, 1500)
    unit.properties[QUOTA] = theirs_us
    unit.realize()
    assert not write.is_held_by(await driver.read(GNB))
    await driver.apply(write)
    assert write.is_held_by(await driver.read(GNB))


@pytest.mark.parametrize(("theirs", "reads"), [("50000 100000", 500.0), ("max 100000", None)])
async def test_what_somebody_else_wrote_to_the_cgroup_is_seen_though_systemd_says_otherwise(
    fake_systemd, driver, theirs, reads
):
    unit = fake_systemd.add(GNB)
    write = await put(driver, 1500)
    unit.cpu_max.write_text(f"{theirs}\n")
    assert unit.properties[QUOTA] == 1_500_000
    assert await driver.read(GNB) == reads
    again = await put(driver, 1500)
    assert again.steps == write.steps
    assert unit.cpu_max.read_text() == "150000 100000\n"


async def test_what_somebody_else_wrote_is_made_systemds_own_where_it_is_as_wished(fake_systemd, driver):
    unit = fake_systemd.add(GNB)
    await put(driver, 700)
    unit.cpu_max.write_text("150000 100000\n")
    await put(driver, 1500)
    assert unit.properties[QUOTA] == 1_500_000


async def test_a_narrower_slice_above_shows_in_the_reading(fake_systemd, driver):
    fake_systemd.add(GNB)
    (fake_systemd.root / "system.slice" / "cpu.max").write_text("30000 100000\n")
    write = await put(driver, 1500)
    assert await driver.read(GNB) == 300.0
    assert not write.is_held_by(300.0)


async def test_a_unit_that_does_not_run_gets_the_limit_that_it_will_have(fake_systemd, driver):
    unit = fake_systemd.add(GNB, runs=False)
    write = await put(driver, 1500)
    assert unit.properties[QUOTA] == 1_500_000
    assert write.is_held_by(await driver.read(GNB))


async def test_without_the_hosts_cgroups_nothing_is_called_held(fake_systemd, dbus, tmp_path: Path):
    fake_systemd.add(GNB)
    async with opened(dbus.address, tmp_path / "elsewhere") as driver:
        write = await driver.plan(GNB, 1500)
        await driver.apply(write)
        with pytest.raises(PermanentError, match="mount the host's /sys/fs/cgroup there"):
            await driver.read(GNB)


async def test_two_units_at_once_get_each_its_own(fake_systemd, driver):
    units = [fake_systemd.add(name) for name in (GNB, UPF)]
    await asyncio.gather(put(driver, 1500), put(driver, 700, UPF))
    assert [unit.properties[QUOTA] for unit in units] == [1_500_000, 700_000]
    assert await asyncio.gather(driver.read(GNB), driver.read(UPF)) == [1500.0, 700.0]


async def test_a_unit_that_fails_holds_up_no_other(fake_systemd, driver):
    fake_systemd.add(GNB)
    done = await asyncio.gather(put(driver, 1500), put(driver, 700, UPF), return_exceptions=True)
    assert isinstance(done[1], TemporaryError)
    assert await driver.read(GNB) == 1500.0


# --- the period -------------------------------------------------------------------------------------------------


async def test_the_period_is_left_as_it_is_unless_it_is_configured(fake_systemd, driver):
    fake_systemd.knows_period = False
    fake_systemd.add(GNB)
    await put(driver, 1500)
    assert await driver.read(GNB) == 1500.0


async def test_a_configured_period_is_set_with_the_quota_and_kept(fake_systemd, dbus):
    unit = fake_systemd.add(GNB)
    async with opened(dbus.address, fake_systemd.root, period_us=20_000) as driver:
        write = await put(driver, 1500)
        assert write.steps == (
            f"systemctl set-property --runtime {GNB} CPUQuota=150%",
            f"systemctl set-property --runtime {GNB} CPUQuotaPeriodSec=20000us",
        )
        assert fake_systemd.sets == [(GNB, True, {QUOTA: 1_500_000, PERIOD: 20_000})]
        unit.properties[PERIOD] = INFINITY_US
        await driver.apply(write)
        assert fake_systemd.sets[1:] == [(GNB, True, {PERIOD: 20_000})]


@pytest.mark.parametrize("period_us", [1_000, 33_333, 1_000_000])
@pytest.mark.parametrize("value", [10, 70, 1234, 128_000])
async def test_what_systemd_rounds_in_a_period_is_still_held(fake_systemd, dbus, period_us, value):
    fake_systemd.add(GNB)
    async with opened(dbus.address, fake_systemd.root, period_us=period_us) as driver:
        write = await put(driver, value)
        assert write.is_held_by(await driver.read(GNB))
        assert not (await driver.plan(GNB, value)).steps
        assert not (await driver.plan(GNB, value + 10)).is_held_by(await driver.read(GNB))


async def test_a_period_that_this_systemd_does_not_know_is_a_permanent_error(fake_systemd, dbus):
    fake_systemd.add(GNB)
    fake_systemd.knows_period = False
    async with opened(dbus.address, fake_systemd.root, period_us=20_000) as driver:
        with pytest.raises(PermanentError, match=r"UnknownProperty.*older than 242"):
            await driver.plan(GNB, 1500)
    assert fake_systemd.sets == []


# --- units that cannot be limited -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["gnb.socket", "/system.slice/gnb.service", "-.slice", "gnb@.service"])
async def test_a_target_that_is_no_unit_with_a_limit_is_never_asked_for(fake_systemd, driver, target):
    for attempt in (driver.plan(target, 1500), driver.read(target)):
        with pytest.raises(PermanentError, match=r"CPU limit|template"):
            await attempt
    assert fake_systemd.asked == []


@pytest.mark.parametrize("value", [0, -5, math.nan, math.inf, 1e12])
async def test_a_value_that_is_no_limit_is_never_asked_for(fake_systemd, driver, value):
    fake_systemd.add(GNB)
    with pytest.raises(PermanentError, match="is not a CPU limit above 0"):
        await driver.plan(GNB, value)
    assert fake_systemd.asked == []


async def test_a_unit_that_is_not_loaded_is_a_temporary_error_and_is_not_loaded_for_that(fake_systemd, driver):
    fake_systemd.on_disk.add(GNB)
    for attempt in (driver.plan(GNB, 1500), driver.read(GNB)):
        with pytest.raises(TemporaryError, match=rf"Unit {GNB} not loaded.*when the unit is started"):
            await attempt
    assert fake_systemd.units == {}


async def test_a_unit_that_went_away_after_the_plan_is_limited_once_it_is_back(fake_systemd, driver):
    fake_systemd.add(GNB)
    write = await driver.plan(GNB, 1500)
    fake_systemd.units.clear()
    with pytest.raises(TemporaryError, match="not loaded"):
        await driver.apply(write)
    fake_systemd.add(GNB)
    await driver.apply(write)
    assert await driver.read(GNB) == 1500.0


async def test_a_unit_that_others_only_mention_is_a_temporary_error(fake_systemd, driver):
    fake_systemd.add(GNB, load_state="not-found")
    with pytest.raises(TemporaryError, match=f"Unit {GNB} not found"):
        await put(driver, 1500)


async def test_a_masked_unit_is_a_permanent_error(fake_systemd, driver):
    fake_systemd.add(GNB, load_state="masked")
    with pytest.raises(PermanentError, match=rf"Unit {GNB} is masked\.; .*unmask"):
        await put(driver, 1500)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("org.freedesktop.DBus.Error.AccessDenied", "Permission denied"),
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "Interactive authentication required."),
    ],
)
async def test_who_may_not_set_is_told_how_to_be_allowed(fake_systemd, driver, name, text):
    fake_systemd.add(GNB)
    fake_systemd.denied = (name, text)
    with pytest.raises(PermanentError, match=rf"{text}; run the actuator as root, .*manage-units by a polkit"):
        await put(driver, 1500)
    assert await driver.read(GNB) is None


NO_SETTING = '<deny send_interface="org.freedesktop.systemd1.Manager" send_member="SetUnitProperties"/>'


@pytest.mark.parametrize("dbus", [NO_SETTING], indirect=True, ids=["denied"])
async def test_a_bus_whose_policy_forbids_setting_is_a_permanent_error(fake_systemd, driver):
    fake_systemd.add(GNB)
    with pytest.raises(PermanentError, match=r"SetUnitProperties.*polkit rule"):
        await put(driver, 1500)


# --- systemd and the bus away -----------------------------------------------------------------------------------


async def test_a_systemd_that_does_not_answer_is_a_temporary_error_within_the_timeout(fake_systemd, dbus):
    fake_systemd.add(GNB)
    async with opened(dbus.address, fake_systemd.root, timeout_s=0.2) as driver:
        fake_systemd.is_silent = True
        with pytest.raises(TemporaryError, match=rf"unit {GNB}: GetUnit: no answer within 0\.2 s"):
            await driver.read(GNB)


async def test_a_bus_without_systemd_is_a_temporary_error(driver):
    with pytest.raises(TemporaryError, match="is systemd running, and on this bus"):
        await driver.read(GNB)


async def test_a_bus_that_was_restarted_is_connected_to_again_by_itself(fake_systemd, dbus, driver):
    fake_systemd.add(GNB)
    write = await put(driver, 1500)
    await dbus.kill()
    with pytest.raises(TemporaryError, match="D-Bus"):
        await driver.read(GNB)
    await fake_systemd.stop()
    await dbus.start()
    await fake_systemd.start(dbus.address)
    assert write.is_held_by(await driver.read(GNB))
    await put(driver, 700)
    assert await driver.read(GNB) == 700.0


async def test_a_bus_that_ends_while_systemd_is_asked_is_a_temporary_error(fake_systemd, dbus, driver):
    fake_systemd.is_silent = True
    reading = asyncio.create_task(driver.read(GNB))
    await eventually(lambda: fake_systemd.asked)
    await dbus.kill()
    with pytest.raises(TemporaryError, match="D-Bus"):
        await reading


async def test_a_bus_that_is_not_there_is_a_temporary_error(tmp_path: Path):
    async with opened(f"unix:path={tmp_path / 'none'}", tmp_path) as driver:
        with pytest.raises(TemporaryError, match=r"D-Bus is not there: .*No such file"):
            await driver.read(GNB)


@pytest.mark.parametrize("address", ["nonsense", "smoke:path=signal", "unix:", "unix:path"])
async def test_an_address_that_is_none_is_a_permanent_error_that_names_the_setting(address, tmp_path: Path):
    async with opened(address, tmp_path) as driver:
        with pytest.raises(PermanentError, match=r"set address in \[actuator\.systemd\] to a D-Bus address"):
            await driver.read(GNB)


@asynccontextmanager
async def answering(path: Path, answer: bytes | None) -> AsyncIterator[str]:
    """Serve something that is no bus: it answers the first line with `answer`, or nothing, and says no more."""

    serving: list[asyncio.Task] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await reader.readline()
            if answer is not None:
                writer.write(answer)
            await reader.read()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, path):
        yield f"unix:path={path}"
        await asyncio.gather(*serving)


async def test_a_bus_that_does_not_let_us_in_is_a_permanent_error(tmp_path: Path):
    async with (
        answering(tmp_path / "bus", b"REJECTED\r\n") as address,
        opened(address, tmp_path) as driver,
    ):
        with pytest.raises(PermanentError, match=r"does not let us in.*run the actuator as root"):
            await driver.read(GNB)


async def test_something_else_than_a_bus_that_says_nothing_is_a_temporary_error(tmp_path: Path):
    async with answering(tmp_path / "bus", None) as address, opened(address, tmp_path, timeout_s=0.2) as driver:
        with pytest.raises(TemporaryError, match=r"no answer within 0\.2 s|D-Bus is not there"):
            await driver.read(GNB)


async def test_closing_leaves_no_connection(fake_systemd: FakeSystemd, dbus):
    fake_systemd.add(GNB)
    watcher = await MessageBus(dbus.address).connect()
    before = await names(watcher)
    async with opened(dbus.address, fake_systemd.root) as driver:
        await driver.read(GNB)
        assert len(await names(watcher)) == len(before) + 1

    async def is_gone():
        return await names(watcher) == before

    await eventually(is_gone)
    watcher.disconnect()
    await watcher.wait_for_disconnect()


async def names(bus: MessageBus) -> list[str]:
    said = await bus.call(
        Message("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames")
    )
    return sorted(said.body[0])


# --- whether it could be written --------------------------------------------------------------------------------


async def test_who_is_systemds_own_user_can_write_and_asking_sets_nothing(fake_systemd, driver):
    fake_systemd.add(GNB)
    assert await driver.access(GNB) == WRITABLE
    assert fake_systemd.sets == []
    with pytest.raises(PermanentError, match="is no unit that has a CPU limit"):
        await driver.access("gnb")


AS_NOBODY = """
    import asyncio, os, sys
    from microopt_actuator.drivers.cgroup import CgroupCpu
    from microopt_actuator.drivers.systemd import SystemdDriver
    from microopt_actuator.drivers.systemd_bus import SystemdBus

    async def main():
        bus = SystemdBus(sys.argv[1], 10.0)
        access = await SystemdDriver(bus, CgroupCpu()).access(sys.argv[2])
        print(access.writable, access.why)
        await bus.close()

    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    asyncio.run(main())
"""


@pytest.mark.root
async def test_of_another_user_only_polkit_knows(dbus, fake_systemd, tmp_path):
    fake_systemd.add(GNB)
    closed = {one: one.stat().st_mode for one in (tmp_path, *tmp_path.parents) if not one.stat().st_mode & 0o001}
    for folder, mode in closed.items():
        folder.chmod(mode | 0o001)  # on the way to the bus
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", textwrap.dedent(AS_NOBODY), dbus.address, GNB), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
    finally:
        for folder, mode in closed.items():
            folder.chmod(mode)
    assert process.returncode == 0
    assert said.decode().startswith("None whether this user may, polkit says only at a write; if not, run the")
