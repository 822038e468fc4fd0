"""The driver `ovs` on a real Open vSwitch: what is planned is what the kernel gets."""

import asyncio
import contextlib
import time

import pytest

from microopt.errors import PermanentError, TemporaryError
from microopt.settings import Settings
from microopt_actuator.conformance.run import Values, conform
from microopt_actuator.drivers import ovs, ovsdb_session
from microopt_actuator.drivers.base import WRITABLE
from microopt_actuator.settings import ActuatorSettings
from real.switch import run

pytestmark = pytest.mark.root

TARGET = "v0/123"
MANY = 1000


@pytest.fixture
def opening(switch):
    """Open drivers on the test's switch; settings may be added."""

    @contextlib.asynccontextmanager
    async def run(**settings):
        table = {"actuator": {"ovs": {"remote": switch.remote, **settings}}}
        async with ovs.opened(Settings(table, "test").table("actuator", ActuatorSettings), None) as driver:
            yield driver

    return run


@pytest.fixture
async def driver(opening):
    async with opening() as opened:
        yield opened


@pytest.fixture
def port(switch):
    switch.add_port("v0")
    switch.shape("v0", 0, 123)


async def put(driver, value, target=TARGET):
    write = await driver.plan(target, value)
    await driver.apply(write)
    return write


# --- rates ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("port")
@pytest.mark.parametrize(
    ("mbps", "bits", "shown"),
    [(5.0, "5000000", "5Mbit"), (100, "100000000", "100Mbit"), (12.345678, "12345680", "12345Kbit")],
)
async def test_the_database_and_the_kernel_have_what_was_planned(switch, driver, mbps, bits, shown):
    write = await put(driver, mbps)
    assert write.steps == (
        f"ovs queue 123 of port v0 ({switch.queue('v0', 123)}): "
        f"other_config:min-rate={bits} other_config:max-rate={bits}",
    )
    assert switch.config("v0", 123) == {"min-rate": bits, "max-rate": bits}
    assert switch.classes("v0") == {0: ("10Mbit", "10Mbit"), 123: (shown, shown)}
    observed = await driver.read(TARGET)
    assert observed == write.holds == pytest.approx(mbps, abs=4.01e-6)


@pytest.mark.usefixtures("port")
async def test_other_keys_and_rows_stay(switch, driver):
    queue = switch.queue("v0", 123)
    switch.vsctl("set", "queue", queue, "other_config:burst=80000", "other_config:priority=5", "dscp=10")
    await put(driver, 25)
    assert switch.config("v0", 123) == {
        **{"min-rate": "25000000", "max-rate": "25000000"},
        **{"burst": "80000", "priority": "5"},
    }
    assert switch.vsctl("get", "queue", queue, "dscp") == "10"
    assert switch.vsctl("get", "queue", queue, "external_ids:port") == "v0-123"


@pytest.mark.usefixtures("port")
async def test_a_value_in_force_is_not_written_again(switch, driver):
    await put(driver, 25)
    before = switch.vsctl("get", "open_vswitch", ".", "next_cfg")
    assert (await put(driver, 25)).steps == ()
    assert switch.vsctl("get", "open_vswitch", ".", "next_cfg") == before


@pytest.mark.usefixtures("port")
async def test_a_queue_is_found_by_its_tags(switch, driver):
    switch.vsctl("set", "queue", switch.queue("v0", 123), "external_ids:slice=1-000001", "external_ids:way=down")
    switch.vsctl("set", "queue", switch.queue("v0", 0), "external_ids:slice=1-000001", "external_ids:way=up")
    await put(driver, 25, "slice=1-000001,way=down")
    assert await driver.read(TARGET) == 25.0
    assert await driver.read("way=up") == 10.0
    for call in (driver.read("slice=1-000001"), driver.plan("slice=1-000001", 5)):
        with pytest.raises(
            PermanentError, match=r"2 queues have these external_ids .* tell them apart by another"
        ):
            await call
    with pytest.raises(PermanentError, match=r"no queue has these .* set queue UUID external_ids:slice=1-000009"):
        await driver.read("slice=1-000009")


@pytest.mark.usefixtures("port")
async def test_a_queue_with_two_rates_has_no_one_rate_until_it_is_set(switch, driver):
    switch.vsctl("set", "queue", switch.queue("v0", 123), "other_config:min-rate=5000000")
    assert await driver.read(TARGET) is None
    switch.vsctl("remove", "queue", switch.queue("v0", 123), "other_config", "min-rate")
    assert await driver.read(TARGET) is None
    write = await put(driver, 5)
    assert write.is_held_by(await driver.read(TARGET))


@pytest.mark.usefixtures("port")
async def test_what_somebody_else_sets_is_read(switch, driver):
    await put(driver, 25)
    queue = switch.queue("v0", 123)
    switch.vsctl("set", "queue", queue, "other_config:min-rate=7000000", "other_config:max-rate=7000000")
    assert await driver.read(TARGET) == 7.0
    assert (await driver.plan(TARGET, 25)).steps


# --- what Open vSwitch would clip without a word ----------------------------------------------------------------


@pytest.mark.usefixtures("port")
async def test_a_value_above_the_qos_is_refused_and_one_that_became_so_is_read_as_it_is(switch, driver):
    with pytest.raises(
        PermanentError, match=r"100\.1 Mbit/s is more than QoS \S+ of port v0 lets through \(100\)"
    ):
        await driver.plan(TARGET, 100.1)
    write = await put(driver, 80)
    switch.vsctl("set", "qos", switch.vsctl("get", "port", "v0", "qos"), "other_config:max-rate=50000000")
    assert switch.classes("v0")[123] == ("50Mbit", "50Mbit")
    observed = await driver.read(TARGET)
    assert observed == 50.0
    assert not write.is_held_by(observed)
    with pytest.raises(
        PermanentError, match=r"more than QoS .*lets through \(50\); raise its other_config:max-rate"
    ):
        await driver.apply(write)


async def test_without_a_maximum_the_speed_of_the_link_counts(switch, driver):
    switch.add_port("v0")
    switch.shape("v0", 123, most="")
    with pytest.raises(PermanentError, match=r"lets through \(10000\)"):
        await driver.plan(TARGET, 10_001)
    await put(driver, 10_000)
    assert switch.classes("v0")[123] == ("10Gbit", "10Gbit")


@pytest.mark.usefixtures("port")
async def test_less_than_a_packet_a_second_is_refused(switch, driver):
    with pytest.raises(PermanentError, match=r"less than one packet a second \(0\.012 at the MTU of port v0\)"):
        await driver.plan(TARGET, 0.0119)
    await put(driver, 0.012)
    queue = switch.queue("v0", 123)
    switch.vsctl("set", "queue", queue, "other_config:min-rate=8000", "other_config:max-rate=8000")
    assert switch.classes("v0")[123] == ("12Kbit", "12Kbit")
    assert await driver.read(TARGET) == 0.012


@pytest.mark.usefixtures("port")
async def test_rates_that_open_vswitch_counts_modulo_2_to_the_32_are_refused(switch, driver):
    qos = switch.vsctl("get", "port", "v0", "qos")
    switch.vsctl("set", "qos", qos, "other_config:max-rate=34359738360")
    with pytest.raises(PermanentError, match=r"34360\.0 Mbit/s is not above 0 and up to 34359\.7"):
        await driver.plan(TARGET, 34_360.0)
    await put(driver, 34_000)
    assert switch.classes("v0")[123] == ("34Gbit", "34Gbit")
    switch.vsctl("set", "qos", qos, "other_config:max-rate=40000000000")
    assert switch.classes("v0")[123][1] == "5640Mbit"
    with pytest.raises(PermanentError, match=r"lets through \(5640\.26\).* up to 34359738360"):
        await driver.plan(TARGET, 10_000)


# --- where nothing can be shaped --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        ("gone/1", TemporaryError, "the switch has no port gone now"),
        ("bare/1", PermanentError, "port bare has no QoS; ovs-vsctl set port bare qos=@q .* queues:1=@n"),
        ("v0/7", PermanentError, r"QoS of port v0 has no queue 7; ovs-vsctl set qos \S+ queues:7=@n"),
        (
            "noop/1",
            PermanentError,
            r"of type 'linux-noop', whose queues have no rates; ovs-vsctl set qos \S+ type=",
        ),
        ("vx0/1", PermanentError, "vx0 is of type vxlan, which Open vSwitch does not shape; bind the resource to"),
        ("absent/1", TemporaryError, "could not open network device absent .No such device.; the device may come"),
    ],
)
async def test_what_cannot_be_shaped_is_refused_with_the_remedy(switch, port, driver, target, error, text):
    switch.add_port("bare")
    switch.add_port("noop")
    switch.shape("noop", 1, kind="linux-noop")
    tunnel = ("type=vxlan", "options:remote_ip=192.0.2.1")
    switch.vsctl("add-port", "br0", "vx0", "--", "set", "interface", "vx0", *tunnel)
    switch.vsctl("--no-wait", "add-port", "br0", "absent")
    for call in (driver.read(target), driver.plan(target, 5)):
        with pytest.raises(error, match=text):
            await call


async def test_a_row_that_is_two_queues_is_refused(switch, driver):
    for name in ("v0", "v1"):
        switch.add_port(name)
    qos = switch.shape("v0", 123)
    switch.vsctl("set", "port", "v1", f"qos={qos}")
    with pytest.raises(
        PermanentError, match=r"is 2 queues at once \(v0/123, v1/123\); give each port a QoS of its"
    ):
        await driver.plan(TARGET, 5)


@pytest.mark.usefixtures("port")
async def test_a_queue_that_was_deleted_meanwhile_is_an_error_and_is_not_made(switch, driver):
    write = await driver.plan(TARGET, 25)
    qos, queue = switch.vsctl("get", "port", "v0", "qos"), switch.queue("v0", 123)
    switch.vsctl("remove", "qos", qos, "queues", "123", "--", "destroy", "queue", queue)
    for call in (driver.apply(write), driver.read(TARGET)):
        with pytest.raises(PermanentError, match="QoS of port v0 has no queue 123"):
            await call
    switch.vsctl("set", "qos", qos, "queues:123=@q", "--", "--id=@q", "create", "queue", "dscp=0")
    await driver.apply(write)
    assert await driver.read(TARGET) == 25.0


# --- making and removing rows -----------------------------------------------------------------------------------


async def test_missing_rows_are_made_where_the_settings_say_so(switch, opening):
    switch.add_port("v0")
    async with opening(create=True) as driver:
        with pytest.raises(
            PermanentError, match=r"has no QoS; .* set \[actuator.ovs\] port_mbps to have one made"
        ):
            await driver.read(TARGET)
    async with opening(create=True, port_mbps=50.0) as driver:
        assert await driver.read(TARGET) is None
        with pytest.raises(PermanentError, match=r"more than the QoS to be made of port v0 lets through \(50\)"):
            await driver.plan(TARGET, 51)
        write = await put(driver, 20)
        assert [step.split(":")[0] for step in write.steps] == [
            "ovs port v0",
            "ovs queue 123 of port v0, a new one",
        ]
        assert await driver.read(TARGET) == 20.0
        await put(driver, 30, "v0/7")
    assert switch.classes("v0") == {
        0: ("12Kbit", "50Mbit"),
        7: ("30Mbit", "30Mbit"),
        123: ("20Mbit", "20Mbit"),
    }
    assert switch.vsctl("get", "queue", switch.queue("v0", 7), "external_ids:microopt-target") == '"v0/7"'


async def test_what_was_made_and_is_used_no_more_is_removed_and_nothing_else(switch, opening):
    for name in ("v0", "v1"):
        switch.add_port(name)
    switch.vsctl("create", "queue", "external_ids:owner=other")
    switch.vsctl("create", "qos", "type=linux-htb")
    async with opening(create=True, port_mbps=50.0) as driver:
        await put(driver, 20, "v0/1")
        await put(driver, 20, "v0/2")
        await put(driver, 20, "v1/1")
        assert (switch.rows("qos"), switch.rows("queue")) == (3, 4)
        switch.vsctl("del-port", "v0")
        await put(driver, 30, "v1/1")
        assert (switch.rows("qos"), switch.rows("queue")) == (2, 2)
        assert switch.classes("v1")[1] == ("30Mbit", "30Mbit")


# --- together ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("port")
async def test_two_drivers_that_write_the_same_queue_both_learn_what_is_in_force(driver, opening):
    async with opening() as other:
        for value in range(5, 25):
            results = await asyncio.gather(put(driver, value), put(other, value + 50), return_exceptions=True)
            assert all(isinstance(one, TemporaryError) for one in results if isinstance(one, Exception)), results
            await asyncio.sleep(2 * ovsdb_session._MAX_AGE_S)  # so long a reading may be old
            assert await driver.read(TARGET) == await other.read(TARGET) in (value, value + 50)


async def test_a_thousand_queues_are_set_and_read_at_once(switch, opening):
    switch.add_port("v0")
    qos = switch.shape("v0")
    numbers = range(1, MANY + 1)
    queues = [f"queues:{number}=@q{number}" for number in numbers]
    created = [word for number in numbers for word in ("--", f"--id=@q{number}", "create", "queue", "dscp=0")]
    switch.vsctl("set", "qos", qos, *queues, *created)
    targets = [f"v0/{number}" for number in numbers]
    # The kernel's part alone takes a second for each round over a thousand classes.
    async with opening(timeout_s=20.0, settle_s=20.0) as driver:
        gaps = []
        watching = asyncio.create_task(_watch(gaps))
        await asyncio.gather(*(put(driver, 2, target) for target in targets))
        assert await asyncio.gather(*(driver.read(target) for target in targets)) == [2.0] * MANY
        watching.cancel()
    assert set(switch.classes("v0").values()) == {("2Mbit", "2Mbit"), ("12Kbit", "100Mbit")}
    assert max(gaps) < 5.0  # far from blocked, whatever else the machine does


async def _watch(gaps):
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.01)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()


async def test_the_driver_keeps_the_contract(switch, port):
    settings = Settings({"actuator": {"ovs": {"remote": switch.remote}}}, "test")
    for target in (TARGET, "port=v0-123"):
        report = await conform(settings, "ovs", target, Values(), lambda _: None)
        assert report.ok, report
        assert report.before == 10.0
        (refused,) = [outcome.said for outcome in report.outcomes if outcome.check == "wrong target"]
        assert ("QoS of port v0 has no queue 61439" if target == TARGET else "no queue has these") in refused


async def test_the_driver_keeps_the_contract_where_it_makes_what_is_missing(switch):
    switch.add_port("v0")
    settings = Settings(
        {"actuator": {"ovs": {"remote": switch.remote, "create": True, "port_mbps": 50.0}}}, "test"
    )
    report = await conform(settings, "ovs", "v0/7", Values(5.0, 20.0, 10.0), lambda _: None)
    assert report.ok, report
    assert switch.classes("v0") == {0: ("12Kbit", "50Mbit"), 7: ("10Mbit", "10Mbit")}


# --- whether it could be written --------------------------------------------------------------------------------


@pytest.mark.usefixtures("port")
async def test_a_queue_that_can_be_written_is_tried_and_left_as_it_was(switch, driver):
    switch.vsctl("set", "queue", switch.queue("v0", 123), "other_config:burst=80000")
    before = switch.config("v0", 123), switch.vsctl("get", "open_vswitch", ".", "next_cfg")
    assert await driver.access(TARGET) == await driver.access("port=v0-123") == WRITABLE
    assert (switch.config("v0", 123), switch.vsctl("get", "open_vswitch", ".", "next_cfg")) == before
    assert await driver.read(TARGET) == 10.0


async def test_rows_that_could_be_made_are_not_made_by_asking(switch, opening):
    switch.add_port("v0")
    async with opening(create=True, port_mbps=50.0) as driver:
        assert await driver.access("v0/1") == WRITABLE
        assert (switch.rows("qos"), switch.rows("queue")) == (0, 0)


@pytest.mark.usefixtures("port")
async def test_a_standby_of_the_database_can_be_read_and_not_written(switch, driver):
    control = ("ovs-appctl", f"--target={switch.folder / 'ovsdb.ctl'}")
    assert await driver.read(TARGET) == 10.0
    run(*control, "ovsdb-server/set-active-ovsdb-server", f"unix:{switch.folder / 'nobody'}")
    run(*control, "ovsdb-server/connect-active-ovsdb-server")
    assert await driver.read(TARGET) == 10.0
    access = await driver.access(TARGET)
    assert access.writable is False
    assert "not allowed" in access.why
    assert "name the server in charge, not its standby" in access.why
    with pytest.raises(PermanentError, match="not allowed"):
        await put(driver, 25)
    run(*control, "ovsdb-server/disconnect-active-ovsdb-server")
    assert await driver.access(TARGET) == WRITABLE
