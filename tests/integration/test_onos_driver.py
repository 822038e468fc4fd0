"""The driver `onos` against a strict fake of ONOS's REST: what it writes, and in which order."""

import asyncio

import pytest

from fakes.onos import FakeOnos
from fakes.onos_driver import DEVICE, Onos, holds, put
from microopt.errors import PermanentError, TemporaryError


@pytest.fixture
async def fake():
    async with FakeOnos(DEVICE) as server:
        yield server


@pytest.fixture
def settings(fake, tmp_path):
    return Onos(fake, tmp_path)


@pytest.fixture
def open_driver(settings):
    """Open a driver as another process would have it."""
    return settings.opened


@pytest.fixture
async def driver(open_driver):
    async with open_driver() as it:
        yield it


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
    assert fake.meters(DEVICE) == [2]
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
    assert len(fake.meters(DEVICE)) == 10
    assert set(range(1, 10)) < set(fake.meters(DEVICE))


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
    assert fake.meters(DEVICE) == [2]


async def test_what_a_switch_refuses_stays_as_it_was(fake, open_driver):
    async with open_driver(confirm_s=0.2) as driver:
        await put(driver, "metered", 10.0)
        await put(driver, "queued", 10.0)
        fake.devices[DEVICE].refuses = True
        for target in ("metered", "queued") * 2:
            with pytest.raises(TemporaryError, match="the switch refuses it"):
                await put(driver, target, 5.0)
        assert (fake.rates(DEVICE), fake.queues(DEVICE)) == ([10_000], [2])
        assert len(fake.meters(DEVICE)) == 2


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
    assert len(fake.meters(DEVICE)) == 1


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
    assert {idle, packets} < set(fake.meters(DEVICE))
    assert len(fake.meters(DEVICE)) == 3


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
    fake.devices[DEVICE].delete_meter(*fake.meters(DEVICE))
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


async def test_a_flow_is_found_by_its_id_and_under_another_once_onos_was_wiped(fake, driver):
    await put(driver, "metered", 10.0)
    assert await driver.read("metered") == 10.0
    fake.requests.clear()
    (number,) = fake.devices[DEVICE].flows
    assert await driver.read("metered") == 10.0
    assert ("GET", f"flows/{DEVICE}/{number}") in fake.requests
    assert ("GET", "flows/application/org.microopt") not in fake.requests
    fake.devices[DEVICE].flows[number + 1] = fake.devices[DEVICE].flows.pop(number)
    assert await driver.read("metered") == 10.0


async def test_a_target_without_a_flow_names_those_that_there_are(driver):
    with pytest.raises(PermanentError, match=r"'gpu': no flow .*: elsewhere, metered, queued, second"):
        await driver.read("gpu")


async def test_whether_it_may_write_onos_says_only_at_a_write(fake, driver):
    access = await driver.access("metered")
    assert access.writable is None
    assert "whether user onos has the role admin" in access.why
    with pytest.raises(PermanentError, match="no flow of this name"):
        await driver.access("none")
    assert fake.requests == []
