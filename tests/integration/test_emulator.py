"""The emulated outside world as a process: its measurements and its resources, over a real server."""

import asyncio
import itertools
import time
from contextlib import asynccontextmanager

import msgspec
import nats.errors
import pytest

from microopt.errors import ConfigError
from microopt.settings import Settings
from microopt.testing import eventually, running
from microopt_testbed.emulator_agent import EmulatorSettings, build, first_slot_at, first_whole_slot, history

AMPLE = {"gnb_cpu": 4000.0, "transport_bandwidth": 40.0}
SLOT_S = 0.05


def table(tmp_path, *slices, **changes):
    """Return a [testbed] table; no traces lie in `tmp_path`, so that the shipped profile is used."""
    entries = slices or ({"slice": "1-000001"},)
    return {
        "slices": [{"resources": AMPLE, **entry} for entry in entries],
        "slot_s": SLOT_S,
        "slots_per_interval": 2,
        "intervals_per_day": 24,
        "hour": 12.0,
        "history_days": 2,
        "data": str(tmp_path),
        **changes,
    }


def settings(tmp_path, *slices, **changes):
    return msgspec.convert(table(tmp_path, *slices, **changes), EmulatorSettings)


@asynccontextmanager
async def emulating(broker, testbed):
    async with running(build(Settings({"testbed": testbed}, "test")), broker.url) as agent:
        yield agent


@pytest.fixture
async def measured(bus):
    """Collect every measurement."""
    seen = []

    async def collect(message):
        seen.append((message.subject, msgspec.json.decode(message.data)))

    await bus.nc.subscribe("testbed.measurement.*", cb=collect)
    await bus.nc.flush()
    return seen


async def ask(bus, target, **request):
    answer = await bus.nc.request(f"testbed.resource.{target}", msgspec.json.encode(request), timeout=2)
    return msgspec.json.decode(answer.data)


async def answers(bus, target):
    try:
        return await ask(bus, target)
    except nats.errors.Error:
        return None


async def test_each_slot_of_each_slice_is_measured_at_its_end_and_none_left_out(broker, bus, measured, tmp_path):
    testbed = table(tmp_path, {"slice": "1-000001"}, {"slice": "2", "square": 5161})
    async with emulating(broker, testbed):
        await eventually(lambda: len(measured) >= 20)
        heard = {subject: [m for s, m in measured if s == subject] for subject, _ in measured}
        now = time.time()
    assert set(heard) == {"testbed.measurement.1-000001", "testbed.measurement.2"}
    for subject, samples in heard.items():
        assert {m["snssai"] for m in samples} == {subject.rsplit(".", 1)[1]}
        times = [m["timestamp"] for m in samples]
        assert all(b - a == pytest.approx(SLOT_S, abs=1e-5) for a, b in itertools.pairwise(times))
        assert times[0] / (2 * SLOT_S) == pytest.approx(round(times[0] / (2 * SLOT_S)), abs=1e-3)
        assert times[-1] + SLOT_S <= now
        assert all((m["dl_thpt_per_ue_mbps"] is None) == (m["ues"] == 0) for m in samples)


async def test_traffic_goes_on_where_history_ends_and_comes_again_after_its_days(broker, bus, measured, tmp_path):
    start, slot_s, day = float(round(time.time())), 0.02, 6
    testbed = table(
        tmp_path, start=start, slot_s=slot_s, slots_per_interval=1, intervals_per_day=day, history_days=1, days=3
    )
    async with emulating(broker, testbed):
        await eventually(lambda: len(measured) >= 6 * day)
    seen = {round((m["timestamp"] - start) / slot_s): m["ues"] for _, m in measured}
    # The same four days from the same Sunday, three of them seen as history.
    later = msgspec.convert({**testbed, "weekday": 2, "history_days": 3, "days": 1}, EmulatorSettings)
    two_days = [users for _, users in history(later, 2)["1-000001"]]
    assert len(set(two_days)) > 1
    cycles = {slot: users for slot, users in seen.items() if slot % (3 * day) < 2 * day}
    assert cycles == {slot: two_days[slot % (3 * day)] for slot in cycles}
    assert max(cycles) - min(cycles) >= 3 * day


async def test_after_a_stall_every_slot_is_still_published_with_its_own_time(broker, bus, measured, tmp_path):
    async with emulating(broker, table(tmp_path)):
        await eventually(lambda: len(measured) >= 2)
        time.sleep(6 * SLOT_S)  # noqa: ASYNC251 - the stall: nothing in this process goes on
        await eventually(lambda: len(measured) >= 12)
    times = [m["timestamp"] for _, m in measured]
    assert all(b - a == pytest.approx(SLOT_S, abs=1e-5) for a, b in itertools.pairwise(times))


async def test_a_resource_is_read_and_set_and_rules_the_qos(broker, bus, measured, tmp_path):
    async with emulating(broker, table(tmp_path)):
        assert await eventually(lambda: answers(bus, "1-000001.gnb_cpu")) == {"value": 4000.0}
        assert await ask(bus, "1-000001.transport_bandwidth", set=0.0) == {"value": 0.0}
        assert await ask(bus, "1-000001.transport_bandwidth") == {"value": 0.0}
        begun = len(measured)
        await eventually(lambda: len(measured) >= begun + 4)
        # The slot that was running when it was set, and perhaps one in flight, had the former value.
        assert {m["dl_thpt_per_ue_mbps"] for _, m in measured[begun + 2 :]} <= {0.0, None}
        assert 0.0 in {m["dl_thpt_per_ue_mbps"] for _, m in measured[begun + 2 :]}


async def test_a_request_that_cannot_be_obeyed_is_answered_with_why(broker, bus, tmp_path):
    async with emulating(broker, table(tmp_path)):
        await eventually(lambda: answers(bus, "1-000001.gnb_cpu"))
        for target, data, error in (
            ("1-000001.gpu", b"{}", "'gpu'"),
            ("1-000001.gnb_cpu", b'{"set":-1}', "at least 0"),
            ("1-000001.gnb_cpu", b'{"set":"much"}', "$.set"),
            ("1-000001.gnb_cpu", b'{"value":1}', "`value`"),
            ("1-000001.gnb_cpu", b"much", "malformed"),
        ):
            answer = await bus.nc.request(f"testbed.resource.{target}", data, timeout=2)
            assert error in msgspec.json.decode(answer.data)["error"]
        assert await ask(bus, "1-000001.gnb_cpu") == {"value": 4000.0}


async def test_it_goes_on_after_the_server_was_killed_and_restarted(broker, bus, measured, tmp_path):
    async with emulating(broker, table(tmp_path)):
        await eventually(lambda: measured)
        await broker.kill()
        await broker.start()
        await eventually(lambda: answers(bus, "1-000001.gnb_cpu"), within_s=30)
        begun = len(measured)
        await eventually(lambda: len(measured) > begun, within_s=30)


def test_history_is_what_lies_before_the_first_slot(tmp_path):
    one = settings(tmp_path, {"slice": "1"}, {"slice": "2", "seed": 5}, start=1_000_000.0, history_days=3)
    past = history(one, 2)
    assert set(past) == {"1", "2"}
    for series in past.values():
        assert len(series) == 2 * 48
        assert [t for t, _ in series] == pytest.approx([1_000_000.0 + (k - 96) * SLOT_S for k in range(96)])
        assert {type(n) for _, n in series} == {int}
    assert past["1"] != past["2"]
    assert history(one, 1)["1"] == past["1"][48:]
    assert history(one, 0)["1"] == []


def test_history_needs_a_start_and_enough_days(tmp_path):
    with pytest.raises(ConfigError, match=r"\[testbed\] start"):
        history(settings(tmp_path), 1)
    with pytest.raises(ConfigError, match=r"\[testbed\] history_days: 2 is less than the 3 days asked for"):
        history(settings(tmp_path, start=1.0), 3)


def test_the_first_slot_is_aligned_to_the_intervals(tmp_path):
    one = settings(tmp_path, slot_s=2.0, slots_per_interval=5)
    assert first_slot_at(one, 1_001.0) == 1_010.0
    assert first_slot_at(one, 1_010.0) == 1_010.0
    assert first_slot_at(settings(tmp_path, start=7.0), 1_001.0) == 7.0


def test_slots_before_the_process_are_not_made_up():
    assert first_whole_slot(100.0, 2.0, now_s=90.0) == 0
    assert first_whole_slot(100.0, 2.0, now_s=100.0) == 0
    assert first_whole_slot(100.0, 2.0, now_s=104.5) == 3


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"slices": []}, "slices"),
        ({"slices": [{"slice": "1", "resources": {"gnb_cpu": 1.0}}]}, "transport_bandwidth"),
        ({"slices": [{"slice": "1", "resources": AMPLE}] * 2}, "1 is there twice"),
        ({"slices": [{"slice": "embb", "resources": AMPLE}]}, "slice"),
        ({"slices": [{"slice": "1", "square": 7, "resources": AMPLE}]}, "square 7"),
        ({"weekday": 7}, "weekday"),
        ({"slot_s": 0.0}, "slot_s"),
        ({"slotz": 1}, "'slotz'"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path, changes, error):
    with pytest.raises(ConfigError, match=error):
        build(Settings({"testbed": table(tmp_path, **changes)}, "test"))


async def test_the_clock_does_not_drift_with_the_work_of_a_slot(broker, bus, measured, tmp_path):
    start, slot_s = float(round(time.time())), 0.02

    def lag_s():
        return time.time() - measured[-1][1]["timestamp"]

    async with emulating(broker, table(tmp_path, start=start, slot_s=slot_s)):
        while len(measured) < 60:
            time.sleep(0.008)  # noqa: ASYNC251 - work that takes a good part of a slot
            await asyncio.sleep(0.0)
        now_s = await eventually(
            lambda: time.time() if measured[-1][1]["timestamp"] > time.time() - 0.03 else None
        )
        count = len(measured)
    first_s = measured[0][1]["timestamp"]
    assert first_s + (count - 1) * slot_s == pytest.approx(measured[count - 1][1]["timestamp"], abs=1e-5)
    assert measured[count - 1][1]["timestamp"] + slot_s <= now_s
