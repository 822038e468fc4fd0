"""The driver `onos` against a strict fake of ONOS's REST: what it writes, in which order, and what it survives."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from fakes.onos import PASSWORD, FakeOnos
from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt.settings import Settings
from microopt.testing import eventually
from microopt_actuator.drivers import onos
from microopt_actuator.settings import ActuatorSettings

DEVICE = "of:0000000000000050"
OTHER = "of:0000000000000051"
ADDRESS = {"ipv4_src": "10.10.3.1/32"}
QUEUES = [{"id": 3, "mbps": 40}, {"id": 1, "mbps": 5}, {"id": 2, "mbps": 10}]
FLOWS = {
    "metered": {"device": DEVICE, "selector": ADDRESS},
    "second": {"device": DEVICE, "selector": {"ipv4_src": "10.10.3.2/32"}},
    "queued": {"device": DEVICE, "selector": {"ipv4_src": "10.10.3.3/32"}, "queues": QUEUES},
    "elsewhere": {"device": OTHER, "selector": ADDRESS},
}


@pytest.fixture
async def fake():
    async with FakeOnos(DEVICE) as server:
        yield server


@pytest.fixture
def password_file(tmp_path):
    file = tmp_path / "onos"
    file.write_text(f"{PASSWORD}\n")
    return file


@pytest.fixture
def open_driver(fake, password_file):
    """Open a driver as another process would have it."""

    @asynccontextmanager
    async def run(**changes):
        table = {"url": fake.url, "password_file": str(password_file), "flows": FLOWS, "confirm_s": 5.0, **changes}
        settings = Settings({"actuator": {"onos": table}}, "test").table("actuator", ActuatorSettings)
        async with onos.opened(settings, None) as driver:
            yield driver

    return run


@pytest.fixture
async def driver(open_driver):
    async with open_driver() as it:
        yield it


async def put(driver, target, value):
    write = await driver.plan(target, value)
    await driver.apply(write)
    return write


async def holds(driver, target, value):
    write = await put(driver, target, value)
    return write.is_held_by(await driver.read(target))


async def test_a_flow_gets_a_meter_of_its_own_and_is_read_from_the_switch(fake, driver):
    assert await driver.read("metered") is None
    write = await driver.plan("metered", 12.3456)
    assert write.holds == 12.346
    assert [step.split(" {")[0] for step in write.steps] == [
        f"POST /onos/v1/meters/{DEVICE}",
        f"POST /onos/v1/flows/{DEVICE}?appId=org.microopt",
    ]
    assert fake.writes == []
    await driver.apply(write)
    assert await driver.read("metered") == 12.346
    assert fake.rates(DEVICE) == [12_346]


async def test_a_rate_is_changed_by_a_new_meter_first_and_the_old_one_goes_last(fake, driver):
    await put(driver, "metered", 10.0)
    fake.requests.clear()
    assert await holds(driver, "metered", 20.0)
    assert fake.writes == [f"POST meters/{DEVICE}", f"POST flows/{DEVICE}", f"DELETE meters/{DEVICE}/1"]
    assert list(fake.devices[DEVICE].meters) == [2]
    assert len(fake.devices[DEVICE].flows) == 1


async def test_at_no_time_in_a_change_is_the_flow_without_a_meter(fake, driver):
    await put(driver, "metered", 10.0)
    seen = set()

    async def watch(*_):
        seen.add(tuple(fake.rates(DEVICE)))

    fake.trouble = watch
    await put(driver, "metered", 20.0)
    assert seen == {(10_000,), (20_000,)}


async def test_a_value_that_is_in_force_writes_nothing(fake, driver):
    await put(driver, "metered", 10.0)
    await put(driver, "queued", 10.0)
    fake.requests.clear()
    assert (await put(driver, "metered", 10.0)).steps == ()
    assert (await put(driver, "queued", 10.0)).steps == ()
    assert fake.writes == []


async def test_from_the_tenth_meter_on_ids_in_hexadecimal_mislead_nobody(fake, driver):
    for number in range(9):
        fake.add_meter(DEVICE, 1_000 + number)
    await put(driver, "metered", 10.0)
    for value in (20.0, 30.0, 40.0):
        assert await holds(driver, "metered", value)
        assert fake.rates(DEVICE) == [value * 1000]
    assert len(fake.devices[DEVICE].meters) == 10
    assert set(range(1, 10)) < set(fake.devices[DEVICE].meters)


async def test_a_flow_goes_to_the_slowest_queue_that_is_fast_enough(fake, driver):
    assert [((await driver.plan("queued", value)).holds) for value in (0.5, 5.0, 5.1, 40.0)] == [5, 5, 10, 40]
    assert await holds(driver, "queued", 6.0)
    assert await driver.read("queued") == 10
    assert await holds(driver, "queued", 40.0)
    assert fake.queues(DEVICE) == [3]
    assert len(fake.devices[DEVICE].flows) == 1
    with pytest.raises(PermanentError, match=r"41 Mbit/s is more than the fastest .* \(40\)"):
        await driver.plan("queued", 41.0)


async def test_nothing_that_the_switch_has_not_confirmed_is_read_as_in_force(fake, open_driver):
    async with open_driver(confirm_s=0.3) as driver:
        await put(driver, "metered", 10.0)
        fake.polls = False
        with pytest.raises(TemporaryError, match=r"meter 2 of of:.* is not ADDED within 0\.3 s"):
            await put(driver, "metered", 20.0)
        assert await driver.read("metered") == 10.0
        fake.devices[DEVICE].poll_meters()
        with pytest.raises(TemporaryError, match=r"flow \d+ of of:.* is not ADDED within 0\.3 s"):
            await put(driver, "metered", 20.0)
        assert await driver.read("metered") is None
        fake.polls = True
        await put(driver, "metered", 20.0)
        assert await driver.read("metered") == 20.0
        assert fake.writes.count(f"POST meters/{DEVICE}") == 2
    await settled(fake, [2])


async def settled(fake, meters):
    await eventually(lambda: sorted(fake.devices[DEVICE].meters) == meters, within_s=5)


async def test_what_a_switch_refuses_stays_as_it_was(fake, open_driver):
    async with open_driver(confirm_s=0.2) as driver:
        await put(driver, "metered", 10.0)
        await put(driver, "queued", 10.0)
        fake.devices[DEVICE].refuses = True
        for target in ("metered", "queued") * 2:
            with pytest.raises(TemporaryError, match="the switch refuses it"):
                await put(driver, target, 5.0)
        assert (fake.rates(DEVICE), fake.queues(DEVICE)) == ([10_000], [2])
        assert len(fake.devices[DEVICE].meters) == 2


@pytest.mark.parametrize("last", ["POST meters", "POST flows", "DELETE meters"])
async def test_what_a_crash_has_left_is_used_or_removed_by_the_next_change(fake, open_driver, last):
    async with open_driver() as first:
        await put(first, "metered", 10.0)
        await crash_after(fake, last, put(first, "metered", 20.0))
    fake.requests.clear()
    async with open_driver() as second:
        assert await holds(second, "metered", 20.0)
        assert f"POST meters/{DEVICE}" not in fake.writes
        assert await holds(second, "metered", 30.0)
    assert fake.rates(DEVICE) == [30_000]
    assert len(fake.devices[DEVICE].meters) == 1


async def crash_after(fake, last, change):
    """End a change when ONOS has got its last request and before it has the answer."""
    got = asyncio.Event()

    async def watch(method, path):
        if got.is_set():
            await asyncio.Event().wait()
        if f"{method} {path}".startswith(last):
            got.set()

    fake.trouble = watch
    task = asyncio.create_task(change)
    await got.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})
    fake.trouble = None


async def test_meters_of_others_are_never_touched(fake, driver):
    idle = fake.add_meter(DEVICE, 10_000, 10_000)
    packets = fake.add_meter(DEVICE, 10_000, 2_500, unit="PKTS_PER_SEC")
    for value in (10.0, 20.0, 10.0):
        assert await holds(driver, "metered", value)
    assert {idle, packets} < set(fake.devices[DEVICE].meters)
    assert len(fake.devices[DEVICE].meters) == 3


async def test_flows_of_one_device_change_together_and_share_no_meter(fake, driver):
    for value in (10.0, 20.0, 5.0):
        assert all(await asyncio.gather(holds(driver, "metered", value), holds(driver, "second", value)))
        assert fake.rates(DEVICE) == [value * 1000] * 2
    assert len({what["METER"] for what in fake.devices[DEVICE].table.values()}) == 2


async def test_a_flow_that_somebody_deletes_or_changes_is_seen_and_put_back(fake, driver):
    await put(driver, "metered", 10.0)
    fake.delete_flows(DEVICE)
    assert await driver.read("metered") is None
    assert await holds(driver, "metered", 10.0)
    ((_, entry),) = fake.devices[DEVICE].flows.values()
    entry.instructions["OUTPUT"] = "7"
    assert await driver.read("metered") is None
    assert await holds(driver, "metered", 10.0)
    fake.devices[DEVICE].delete_meter(next(iter(fake.devices[DEVICE].meters)))
    assert await driver.read("metered") is None
    assert await holds(driver, "metered", 10.0)
    assert fake.rates(DEVICE) == [10_000]


async def test_a_flow_of_another_owner_is_not_fought_for(fake, driver, open_driver):
    async with open_driver(app_id="org.example.other") as other:
        await put(other, "metered", 10.0)
    assert await driver.read("metered") is None
    with pytest.raises(PermanentError, match=r"of 'org\.example\.other' has the same selector and priority"):
        await driver.plan("metered", 20.0)
    assert fake.rates(DEVICE) == [10_000]


async def test_a_device_that_is_gone_or_away_is_waited_for(fake, driver):
    with pytest.raises(TemporaryError, match=rf"{OTHER}: does not know this device"):
        await driver.read("elsewhere")
    await put(driver, "metered", 10.0)
    fake.devices[DEVICE].available = False
    for call in (driver.read("metered"), driver.plan("metered", 20.0)):
        with pytest.raises(TemporaryError, match="has lost the connection to this device"):
            await call


@pytest.mark.parametrize("status", [404, 409, 500, 503])
async def test_an_onos_in_trouble_passes_and_its_words_are_told(fake, driver, status):
    async def fail(method, _):
        return status if method == "POST" else None

    fake.trouble = fail
    with pytest.raises(TemporaryError, match=rf"POST /meters/{DEVICE}: {status} .*the store is away"):
        await put(driver, "metered", 10.0)
    fake.trouble = None
    assert await holds(driver, "metered", 10.0)


async def test_an_onos_that_hangs_is_named_within_the_timeout(fake, open_driver):
    async def hang(*_):
        await asyncio.Event().wait()

    async with open_driver(timeout_s=0.2) as driver:
        fake.trouble = hang
        with pytest.raises(TemporaryError, match=r"GET /devices/of:\d+: no answer within 0\.2 s"):
            await driver.read("metered")


async def test_an_onos_that_is_not_there_is_named(open_driver, unused_port):
    async with open_driver(url=f"http://127.0.0.1:{unused_port}/onos/v1") as driver:
        with pytest.raises(TemporaryError, match=rf"ONOS at http://127\.0\.0\.1:{unused_port}.*connect"):
            await driver.read("metered")


async def test_a_wrong_password_or_a_viewer_is_told_with_the_remedy_and_without_the_password(
    open_driver, password_file
):
    password_file.write_text("s3cret\n")
    async with open_driver() as driver:
        with pytest.raises(PermanentError, match=r"401; check username \(onos\) and password_file") as caught:
            await driver.read("metered")
        assert "s3cret" not in str(caught.value)
    password_file.write_text("guest\n")
    async with open_driver(username="guest") as driver:
        assert await driver.read("metered") is None
        with pytest.raises(PermanentError, match="give user guest the role admin"):
            await put(driver, "metered", 10.0)


async def test_another_web_server_is_told_from_onos(fake, open_driver):
    async with open_driver(url=fake.url.removesuffix("/v1")) as driver:
        with pytest.raises(TemporaryError, match="does not know this device"):
            await driver.read("metered")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 0.0004, 4_294_967.4])
async def test_a_rate_that_no_meter_can_have_is_refused(driver, value):
    with pytest.raises(PermanentError, match="'metered'"):
        await driver.plan("metered", value)
    with pytest.raises(PermanentError, match="'queued'"):
        await driver.plan("queued", value if value > 1 or value <= 0 else float("nan"))


async def test_a_target_without_a_flow_names_those_that_there_are(driver):
    with pytest.raises(PermanentError, match=r"'gpu': no flow .*: elsewhere, metered, queued, second"):
        await driver.read("gpu")


async def test_without_a_password_the_driver_says_what_is_missing(open_driver, tmp_path):
    for given, error in ((None, "is missing"), (str(tmp_path / "none"), "cannot be read")):
        with pytest.raises(ConfigError, match=rf"password_file .*{error}"):
            async with open_driver(password_file=given):
                pass
