"""The collector, from what sources say to telemetry, against a real server."""

import asyncio
import json
import time
import urllib.request
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import nats.js.errors
import pytest

import microopt_collector.agent
import microopt_collector.sink
import microopt_collector.sources.nats
from microopt import codec, streams
from microopt.errors import ConfigError
from microopt.messages import Actuation, Telemetry
from microopt.settings import Settings
from microopt.testing import eventually, running
from microopt_collector import sources
from microopt_collector.agent import build
from microopt_collector.dead import KEPT_A_MINUTE

SLICE = "1-000001"
PATIENT = 10.0  # slots of lateness, so that a busy machine makes nothing late
RAN = {
    "kind": "nats",
    "name": "ran",
    "subject": "ran.kpi.>",
    "slice_field": "snssai",
    "time_field": "ts",
    "time_unit": "ms",
    "users_field": "ue.count",
    "qos_field": "ue.thpt",
    "qos_scale": 1e-6,
}


@asynccontextmanager
async def collecting(broker, *, slices=(), bus=None, http_port=0, make=sources.make, **table):
    table.setdefault("lateness_slots", PATIENT)
    for spec in slices:
        await bus.put_spec(streams.SLICES, spec.slice, spec)
    agent = build(Settings({"collector": table}, origin="test"), make)
    async with running(agent, broker.url, http={"port": http_port}) as process:
        yield process


async def say(bus, subject="testbed.measurement.1", **changes):
    """Say a measurement as the testbed does, at the present unless told otherwise."""
    found = {"snssai": SLICE, "timestamp": time.time(), "ues": 3, "dl_thpt_per_ue_mbps": 4.5} | changes
    await bus.nc.publish(subject, json.dumps(found).encode())


async def stored(bus, stream=streams.TELEMETRY):
    info = await bus.js.stream_info(stream)
    found = []
    for sequence in range(1, info.state.last_seq + 1):
        try:
            found.append(await bus.js.get_msg(stream, sequence))
        except nats.js.errors.NotFoundError:
            continue
    return found


async def telemetry_of(bus, slice_=SLICE):
    found = [codec.decode(m.data, Telemetry, origin="test") for m in await stored(bus)]
    return [t for t in found if t.slice == slice_]


async def say_until_heard(bus, **changes):
    """Say measurements until telemetry comes of them: core NATS tells nobody that nobody listens yet."""

    async def heard():
        await say(bus, **changes)
        return [t for t in await telemetry_of(bus, changes.get("snssai", SLICE)) if t.quality != "missing"]

    return await eventually(heard, every_s=0.05)


async def test_measurements_of_the_testbed_become_telemetry(bus, broker, make_slice):
    async with collecting(broker, bus=bus, slices=[make_slice()]):
        [first, *_] = await say_until_heard(bus)
    assert (first.users, first.qos, first.quality, first.source) == (3.0, 4.5, "complete", "testbed")
    assert first.slot_s == 0.1
    assert first.time.microsecond % 100_000 == 0


async def test_every_field_can_be_mapped(bus, broker, make_slice):
    async def heard():
        found = {"snssai": SLICE, "ts": time.time() * 1000, "ue": {"count": 2, "thpt": 7.5e6}}
        await bus.nc.publish("ran.kpi.cell.7", json.dumps(found).encode())
        return await telemetry_of(bus)

    async with collecting(broker, bus=bus, slices=[make_slice()], sources=[RAN]):
        [first, *_] = await eventually(heard, every_s=0.05)
    assert (first.users, first.qos, first.source) == (2.0, pytest.approx(7.5), "ran")


async def test_bad_input_is_kept_with_its_field_and_the_next_is_taken(bus, broker, make_slice):
    bad = [
        ({"ues": float("nan")}, "field 'ues'"),
        ({"dl_thpt_per_ue_mbps": -1}, "field 'dl_thpt_per_ue_mbps'"),
        ({"timestamp": time.time() + 3600}, "field 'timestamp'"),
        ({"snssai": "1-0000ff"}, f"unknown slice 1-0000ff; known: {SLICE}, 2"),
    ]
    async with collecting(broker, bus=bus, slices=[make_slice(), make_slice("2")]):
        before = len(await say_until_heard(bus))
        for changes, _ in bad:
            await say(bus, **changes)
        await bus.nc.publish("testbed.measurement.x", b"\xff not JSON")
        kept = await eventually(lambda: _at_least(bus, len(bad) + 1))

        async def goes_on():
            await say(bus)
            return len([t for t in await telemetry_of(bus) if t.users]) > before

        await eventually(goes_on, every_s=0.05)
    errors = [m.headers["Microopt-Error"] for m in kept]
    for (_, text), error in zip([*bad, (None, "not JSON")], errors, strict=True):
        assert text in error
    assert {m.subject for m in kept} == {"microopt.dead.collector"}
    assert kept[-1].headers["Microopt-Subject"] == "testbed.measurement.x"
    assert kept[-1].data == b"\xff not JSON"


async def _at_least(bus, count):
    found = await stored(bus, streams.DEAD)
    return found if len(found) >= count else None


async def test_a_broken_sensor_is_counted_whole_and_kept_in_part(bus, broker, make_slice, unused_port):
    async with collecting(broker, bus=bus, slices=[make_slice()], http_port=unused_port):
        await say_until_heard(bus)
        for _ in range(200):
            await say(bus, ues=-1)
        await say(bus, dl_thpt_per_ue_mbps=4.5e6)
        count = 'microopt_collector_rejected_total{{reason="{}",source="testbed"}} {}'
        text = await eventually(lambda: _metrics(unused_port, count.format("implausible", 1.0)))
        assert count.format("negative", 200.0) in text
        assert 'microopt_collector_source_up{source="testbed"} 1.0' in text
        kept = await eventually(lambda: _at_least(bus, KEPT_A_MINUTE + 1))
    assert len(kept) == KEPT_A_MINUTE + 1
    assert "look at qos_scale" in kept[-1].headers["Microopt-Error"]


async def test_collecting_goes_on_when_the_clock_is_set_back(bus, broker, make_slice, monkeypatch):
    ahead_s = [3600.0]
    clock = SimpleNamespace(time=lambda: time.time() + ahead_s[0])
    for module in (microopt_collector.agent, microopt_collector.sink, microopt_collector.sources.nats):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=clock.time, perf_counter=time.perf_counter))
    async with collecting(broker, bus=bus, slices=[make_slice()]):
        await say_until_heard(bus, timestamp=clock.time())
        ahead_s[0] = 0.0

        async def heard_now():
            await say(bus)
            return [t for t in await telemetry_of(bus) if t.users and t.time < datetime.now(UTC)]

        await eventually(heard_now, every_s=0.05)


async def test_late_and_repeated_measurements_are_counted_and_not_published(bus, broker, make_slice, unused_port):
    async with collecting(broker, bus=bus, slices=[make_slice()], http_port=unused_port):
        await say_until_heard(bus)
        long_ago = time.time() - 60
        await say(bus, timestamp=long_ago, ues=99)
        again = time.time()
        await say(bus, timestamp=again)
        await say(bus, timestamp=again, ues=99)
        count = 'microopt_collector_source_results_total{{outcome="{}",source="testbed"}} 1.0'
        text = await eventually(lambda: _metrics(unused_port, count.format("duplicate")))
        assert count.format("late") in text
        assert "microopt_collector_source_last_success_timestamp_seconds" in text
        heard = len(await telemetry_of(bus))

        async def more():
            await say(bus)
            return len(await telemetry_of(bus)) > heard + 1

        await eventually(more, every_s=0.05)
    found = await telemetry_of(bus)
    assert {t.users for t in found} <= {3.0, None}
    assert len({t.time for t in found}) == len(found)


async def _metrics(port, wanted):
    def get():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    text = await asyncio.to_thread(get)
    return text if wanted in text else None


async def test_a_silence_becomes_missing_telemetry(bus, broker, make_slice):
    async with collecting(broker, bus=bus, slices=[make_slice(), make_slice("2")], lateness_slots=5.0):
        await say_until_heard(bus)
        found = await eventually(lambda: _missing(bus))
        assert await telemetry_of(bus, "2") == []  # never seen: nothing of it is missing
    assert {(t.users, t.qos, t.source) for t in found} == {(None, None, "")}
    times = [t.time for t in await telemetry_of(bus)]
    assert times == sorted(set(times))


async def _missing(bus):
    found = [t for t in await telemetry_of(bus) if t.quality == "missing"]
    return found if len(found) >= 3 else None


async def test_telemetry_carries_the_allocation_that_was_read_back(bus, broker, make_slice):
    def actuation(state, observed):
        return Actuation(
            slice=SLICE,
            resource="gnb_cpu",
            epoch=1,
            state=state,
            requested=2000.0,
            observed=observed,
            driver="cgroup",
            at=datetime.now(UTC),
        )

    async def carried():
        await say(bus)
        return {"gnb_cpu": 1990.0} in [t.allocation for t in await telemetry_of(bus)]

    await bus.publish(actuation("verified", 1990.0))
    async with collecting(broker, bus=bus, slices=[make_slice()]):
        await eventually(carried, every_s=0.05)
        await bus.publish(actuation("refused", 5.0))
        await say_until_heard(bus)
    assert all(t.allocation.get("gnb_cpu") in (1990.0, None) for t in await telemetry_of(bus))


async def test_replicas_say_each_slot_once(bus, broker, make_slice):
    async def enough():
        await say(bus)
        return len(await telemetry_of(bus)) >= 10

    async with collecting(broker, bus=bus, slices=[make_slice()]), collecting(broker):
        await eventually(enough, every_s=0.05)
    times = [t.time for t in await telemetry_of(bus)]
    assert len(times) == len(set(times))


async def test_collecting_goes_on_after_the_server_was_killed_and_restarted(bus, broker, make_slice):
    async with collecting(broker, bus=bus, slices=[make_slice()]):
        await say_until_heard(bus)
        await broker.kill()
        await broker.start()
        await eventually(lambda: bus.nc.is_connected)
        restarted = datetime.now(UTC)

        async def heard_again():
            await say(bus)
            return any(t.time > restarted and t.users for t in await telemetry_of(bus))

        await eventually(heard_again, every_s=0.2, within_s=30)


class Broken:
    """A source that can never run."""

    name = "ran"

    async def run(self, sink):
        raise OSError("no such interface")


async def test_a_source_that_fails_stops_no_other(bus, broker, make_slice):
    def make(settings, client):
        return Broken() if settings.name == "ran" else sources.make(settings, client)

    async with collecting(broker, bus=bus, slices=[make_slice()], make=make, sources=[RAN, {"kind": "testbed"}]):
        assert await say_until_heard(bus)


async def test_a_slice_that_comes_later_is_collected_too(bus, broker, make_slice):
    async with collecting(broker, bus=bus, slices=[make_slice()]):
        await say_until_heard(bus)
        await bus.put_spec(streams.SLICES, "2", make_slice("2"))
        await say_until_heard(bus, snssai="2")


@pytest.mark.parametrize("subject", ["", "a b", "a..b", ".a", "a.", "a.>.b"])
def test_a_subject_that_no_server_takes_is_refused(subject):
    with pytest.raises(ConfigError, match="subject"):
        build(Settings({"collector": {"sources": [RAN | {"subject": subject}]}}, origin="test"))


def test_two_sources_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="ran given twice"):
        build(Settings({"collector": {"sources": [RAN, RAN]}}, origin="test"))
