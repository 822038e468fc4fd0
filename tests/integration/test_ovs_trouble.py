"""The driver `ovs` when one of the switch's daemons hangs, dies or comes back."""

import asyncio
import contextlib
import subprocess
import sys
import textwrap

import pytest

from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt.settings import Settings
from microopt.testing import eventually
from microopt_actuator.drivers import ovs
from microopt_actuator.settings import ActuatorSettings

pytestmark = pytest.mark.root

TARGET = "v0/123"
AWAY = "ovs unix:.*"


@pytest.fixture
def opening(switch):
    @contextlib.asynccontextmanager
    async def run(**settings):
        own = {"remote": switch.remote, "timeout_s": 0.5, "settle_s": 0.5, **settings}
        table = Settings({"actuator": {"ovs": own}}, "test").table("actuator", ActuatorSettings)
        async with ovs.opened(table, None) as driver:
            yield driver

    return run


@pytest.fixture
async def driver(switch, opening):
    switch.add_port("v0")
    switch.shape("v0", 123)
    async with opening() as opened:
        await put(opened, 20)
        yield opened


async def put(driver, value):
    write = await driver.plan(TARGET, value)
    await driver.apply(write)
    return write


async def in_force(driver, value):
    """Wait until a value can be put in force and is read, as the actuator goes on trying."""

    async def probe():
        try:
            write = await put(driver, value)
            return write.is_held_by(await driver.read(TARGET))
        except TemporaryError:
            return False

    await eventually(probe, what=f"{value} in force")


async def test_a_database_that_was_killed_and_comes_back_is_used_again(switch, driver):
    await switch.ovsdb.kill()
    for call in (driver.read(TARGET), driver.plan(TARGET, 30)):
        with pytest.raises(TemporaryError, match=AWAY):
            await call
    with pytest.raises(
        TemporaryError, match=r"refused; is ovsdb-server running\? If so, check \[actuator.ovs\] rem"
    ):
        await driver.read(TARGET)
    await switch.ovsdb.start()
    await in_force(driver, 30)
    assert switch.classes("v0")[123] == ("30Mbit", "30Mbit")


async def test_a_database_that_hangs_is_a_temporary_error_and_holds_nothing_else_up(switch, driver):
    write = await driver.plan(TARGET, 30)
    switch.ovsdb.pause()
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    for call in (driver.apply(write), driver.read(TARGET), driver.plan(TARGET, 40)):
        with pytest.raises(TemporaryError, match=r"no answer within 0\.5 s"):
            await call
    ticking.cancel()
    assert ticks > 10
    switch.ovsdb.resume()
    await in_force(driver, 40)
    assert switch.classes("v0")[123] == ("40Mbit", "40Mbit")


@pytest.mark.parametrize("killed", [True, False])
async def test_a_transaction_under_way_when_the_database_dies_or_hangs_can_be_tried_again(switch, driver, killed):
    write = await driver.plan(TARGET, 30)
    switch.ovsdb.pause()
    applying = asyncio.create_task(driver.apply(write))
    await asyncio.sleep(0.1)
    assert not applying.done()
    if killed:
        await switch.ovsdb.kill()
        await switch.ovsdb.start()
    else:
        switch.ovsdb.resume()
    await asyncio.gather(applying, return_exceptions=True)
    assert applying.exception() is None or isinstance(applying.exception(), TemporaryError)
    if killed:
        assert "what was under way may have been done or not" in str(applying.exception())
    await in_force(driver, 30)
    assert switch.classes("v0")[123] == ("30Mbit", "30Mbit")


async def test_a_request_that_a_hanging_database_takes_up_late_undoes_nothing(switch, driver):
    late = await driver.plan(TARGET, 30)
    switch.ovsdb.pause()
    with pytest.raises(TemporaryError, match="no answer"):
        await driver.apply(late)
    switch.ovsdb.resume()
    await in_force(driver, 40)
    await in_force(driver, 20)  # and what the late request had found is so again
    await asyncio.sleep(0.3)
    assert await driver.read(TARGET) == 20.0
    assert switch.classes("v0")[123] == ("20Mbit", "20Mbit")


async def test_what_the_database_accepts_is_not_in_force_before_the_switch_has_taken_it_over(switch, driver):
    switch.vswitchd.pause()
    write = await driver.plan(TARGET, 30)
    behind = (
        r"ovs-vswitchd has not taken over configuration \d+ within 0\.5 s .it has \d+.: .* is ovs-vswitchd run"
    )
    for call in (driver.apply(write), driver.read(TARGET)):
        with pytest.raises(TemporaryError, match=behind):
            await call
    again = await driver.plan(TARGET, 30)
    assert again.steps == ()  # the database has it
    for call in (driver.apply(again), driver.read(TARGET)):
        with pytest.raises(TemporaryError, match=behind):
            await call
    assert switch.classes("v0")[123] == ("20Mbit", "20Mbit")
    switch.vswitchd.resume()
    await in_force(driver, 30)
    assert switch.classes("v0")[123] == ("30Mbit", "30Mbit")


async def test_a_switch_that_was_killed_is_told_until_it_is_back(switch, driver):
    await switch.vswitchd.kill()
    with pytest.raises(TemporaryError, match="is ovs-vswitchd running"):
        await put(driver, 30)
    await switch.vswitchd.start()
    await in_force(driver, 30)
    assert switch.classes("v0")[123] == ("30Mbit", "30Mbit")


async def test_rates_in_the_database_of_a_host_whose_switch_did_not_start_are_not_in_force(switch, opening):
    switch.add_port("v0")
    switch.shape("v0", 123)
    for daemon in (switch.vswitchd, switch.ovsdb):
        await daemon.kill()
    await switch.ovsdb.start()
    async with opening() as driver:
        with pytest.raises(TemporaryError, match="has not taken up interface v0 since the database was started"):
            await driver.read(TARGET)
        await switch.vswitchd.start()
        await in_force(driver, 10)


async def test_a_connection_on_which_nothing_is_asked_stays(switch, opening):
    switch.add_port("v0")
    switch.shape("v0", 123)
    probed = f"punix:{switch.folder / 'probed.sock'}"
    switch.listen(probed)
    switch.vsctl("--no-wait", "set", "manager", probed, "inactivity_probe=1000")
    async with opening(remote=probed.removeprefix("p")) as driver:
        assert await driver.read(TARGET) == 10.0
        await asyncio.sleep(3.0)
        assert await driver.read(TARGET) == 10.0
    said = (switch.folder / "ovsdb.log").read_text()
    assert "no response to inactivity probe" not in said


async def test_a_driver_that_starts_before_the_database_waits_for_it(switch, opening):
    switch.add_port("v0")
    switch.shape("v0", 123)
    await switch.ovsdb.kill()
    async with opening(timeout_s=20.0) as driver:
        reading = asyncio.create_task(driver.read(TARGET))
        await asyncio.sleep(0.1)
        await switch.ovsdb.start()
        with contextlib.suppress(TemporaryError):  # the switch has yet to come back to the database
            assert await reading == 10.0
        await in_force(driver, 10)


async def test_a_database_that_was_made_anew_is_read_anew(switch, driver):
    await switch.vswitchd.kill()
    await switch.ovsdb.kill()
    switch.ovsdb.database.unlink()
    switch.create_database()
    await switch.ovsdb.start()

    async def gone():
        try:
            await driver.read(TARGET)
        except TemporaryError as error:
            return "the switch has no port v0 now" in str(error)

    await eventually(gone)


# --- remotes -----------------------------------------------------------------------------------------------------

READ = """
    import asyncio, sys
    from microopt.settings import Settings
    from microopt_actuator.drivers import ovs
    from microopt_actuator.settings import ActuatorSettings

    async def main():
        settings = dict(pair.split("=", 1) for pair in sys.argv[2:])
        table = Settings({"actuator": {"ovs": settings}}, "test").table("actuator", ActuatorSettings)
        async with ovs.opened(table, None) as driver:
            print(await driver.read(sys.argv[1]))

    asyncio.run(main())
"""


def read_from(*before: str, **settings: str) -> subprocess.CompletedProcess:
    """Read in a process of its own."""
    pairs = [f"{key}={value}" for key, value in settings.items()]
    command = [*before, sys.executable, "-c", textwrap.dedent(READ), TARGET, *pairs]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def port(switch):
    switch.add_port("v0")
    switch.shape("v0", 123)


@pytest.mark.usefixtures("port")
def test_a_database_is_reached_by_tcp(switch):
    switch.listen("ptcp:6640:127.0.0.1")
    inside = ("ip", "netns", "exec", switch.netns)
    assert read_from(*inside, remote="tcp:127.0.0.1").stdout.splitlines()[-1:] == ["10.0"]
    assert read_from(*inside, remote="tcp:localhost:6640").stdout.splitlines()[-1:] == ["10.0"]


@pytest.mark.usefixtures("port")
def test_a_database_is_reached_by_tls_and_only_with_the_right_certificates(switch, tmp_path):
    files = {"tls_ca": "ca.pem", "tls_cert": "client.pem", "tls_key": "client.key"}
    files = {key: str(tmp_path / name) for key, name in files.items()}
    switch.make_certificates(tmp_path)
    switch.make_certificates(tmp_path / "others")
    switch.vsctl("set-ssl", *(str(tmp_path / name) for name in ("server.key", "server.pem", "ca.pem")))
    switch.listen("pssl:6640:127.0.0.1")
    inside = ("ip", "netns", "exec", switch.netns)
    done = read_from(*inside, remote="ssl:127.0.0.1:6640", **files)
    assert done.stdout.splitlines()[-1:] == ["10.0"], done.stderr
    wrong = read_from(*inside, remote="ssl:127.0.0.1:6640", **files | {"tls_ca": str(tmp_path / "others/ca.pem")})
    assert "TemporaryError: ovs ssl:127.0.0.1:6640" in wrong.stderr
    assert "certificate verify failed" in wrong.stderr


@pytest.mark.usefixtures("port")
def test_without_the_right_to_the_socket_the_error_says_so(switch):
    (switch.folder / "db.sock").chmod(0)
    without = "-dac_override,-dac_read_search"
    nobody = ("setpriv", f"--bounding-set={without}", f"--inh-caps={without}")
    done = read_from(*nobody, remote=switch.remote)
    assert "PermanentError" in done.stderr
    assert "let the actuator's user write to the socket" in done.stderr


async def test_what_is_no_database_is_told(opening, tmp_path):
    async def answer(reader, writer):
        await reader.read(100)
        writer.write(b'{"id":1,"error":"unknown method","result":null}')
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_unix_server(answer, tmp_path / "other"),
        opening(remote=f"unix:{tmp_path}/other") as one,
    ):
        with pytest.raises(PermanentError, match="no database of Open vSwitch: unknown method; check"):
            await one.read(TARGET)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"remote": "ftp:127.0.0.1"}, "remote 'ftp:127.0.0.1' is no database's; write unix:"),
        ({"remote": "tcp:127.0.0.1:70000"}, "is no database's"),
        ({"remote": "unix:"}, "is no database's"),
        ({"remote": "ssl:127.0.0.1"}, "needs tls_ca, tls_cert and tls_key"),
        (
            {"remote": "ssl:h", "tls_ca": "/no", "tls_cert": "/no", "tls_key": "/no"},
            "cannot be used: .*No such file",
        ),
    ],
)
async def test_settings_that_cannot_be_used_are_refused(opening, settings, text):
    with pytest.raises(ConfigError, match=text):
        async with opening(**settings):
            pass
