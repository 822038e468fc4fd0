"""The actuator as a process: on a real server, over the emulated slices and over a tree of cgroup files."""

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import nats.errors
import nats.js.errors
import pytest
import structlog
from click.testing import CliRunner

from microopt import streams
from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt.messages import Actuation, Allocation, Interval
from microopt.settings import Settings
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt.testing import eventually, running
from microopt_actuator import agent as actuator
from microopt_actuator.cli import actuator as actuator_command
from microopt_actuator.drivers import testbed as testbed_driver
from microopt_testbed import emulator_agent

SLICE = "1-000001"
CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"
AT_FIRST = {CPU: 4000.0, BANDWIDTH: 40.0}
PEAK = {CPU: 4400.0, BANDWIDTH: 45.0}
POOL = PoolSpec(
    pool="edge",
    resources={
        CPU: ResourceSpec(unit="millicores", weight=1.0, capacity=9000.0),
        BANDWIDTH: ResourceSpec(unit="Mbit/s", weight=1.0, capacity=100.0),
    },
)


def allocation(epoch=1, values=None, *, valid_s=3600.0, **changes):
    now = datetime.now(UTC)
    fields = {
        "slice": SLICE,
        "pool": "edge",
        "interval": Interval(now, 3600.0),
        "values": {CPU: 2000.0, BANDWIDTH: 20.0} if values is None else values,
        "valid_until": now + timedelta(seconds=valid_s),
        "optimizer": "microopt",
        "status": "optimal",
    }
    return Allocation(epoch=epoch, **{**fields, **changes})


async def put_spec(bus, slice_=SLICE, **changes):
    fields = {
        "slice": slice_,
        "pool": "edge",
        "sla": Sla(qos_threshold=4.0, degradation_threshold=0.1),
        "bounds": {CPU: Bounds(100.0, 4500.0), BANDWIDTH: Bounds(1.0, 50.0)},
        "model": "embb",
    }
    await bus.put_spec(streams.POOLS, "edge", POOL)
    await bus.put_spec(streams.SLICES, slice_, SliceSpec(**{**fields, **changes}))


async def reports(bus):
    """Return what the actuator has published, oldest first."""
    info = await bus.js.stream_info(streams.ACTUATIONS)
    messages = [await bus.js.get_msg(streams.ACTUATIONS, seq) for seq in range(1, info.state.last_seq + 1)]
    return [msgspec.json.decode(m.data, type=Actuation) for m in messages]


async def states(bus, resource=CPU):
    return [(r.epoch, r.state) for r in await reports(bus) if r.resource == resource]


async def reported(bus, *expected, resource=CPU, within_s=20.0):
    async def probe():
        return await states(bus, resource) == list(expected)

    await eventually(probe, what=f"{resource} {expected}", within_s=within_s)


async def dead_letters(bus):
    info = await bus.js.stream_info(streams.DEAD)
    messages = [await bus.js.get_msg(streams.DEAD, seq) for seq in range(1, info.state.last_seq + 1)]
    return [m.headers["Microopt-Error"] for m in messages]


# --- over the emulated slices -----------------------------------------------------------------------------------


TESTBED_BINDING = {"slice": "*", "resource": "*", "driver": "testbed", "target": "{slice}.{resource}"}


@asynccontextmanager
async def actuating(broker, *bindings, **changes):
    table = {"bindings": bindings or [TESTBED_BINDING], "check_every_s": 0.1, **changes}
    agent = actuator.build(Settings({"actuator": table}, "test"))
    async with running(agent, broker.url) as process:
        yield process


@asynccontextmanager
async def emulating(broker, bus, tmp_path, *slices):
    emulated = [{"slice": name, "resources": AT_FIRST} for name in (SLICE, *slices)]
    table = {"slices": emulated, "data": str(tmp_path), "history_days": 0}
    agent = emulator_agent.build(Settings({"testbed": table}, "test"))
    async with running(agent, broker.url) as process:
        await eventually(lambda: value_of(bus, CPU))
        yield process


@asynccontextmanager
async def acting_on_testbed(broker, bus, tmp_path, *slices):
    async with emulating(broker, bus, tmp_path, *slices) as world, actuating(broker) as process:
        yield
        await asyncio.gather(world.stop(), process.stop())  # together, which takes half the time


async def value_of(bus, resource, slice_=SLICE):
    try:
        answer = await bus.nc.request(f"testbed.resource.{slice_}.{resource}", b"{}", timeout=1)
    except nats.errors.Error:
        return None
    return msgspec.json.decode(answer.data)["value"]


@pytest.fixture
async def sets(bus):
    """Collect every request to set something that goes to the testbed."""
    seen = []

    async def collect(message):
        request = msgspec.json.decode(message.data or b"{}")
        if "set" in request:
            seen.append((message.subject.rsplit(".", 1)[1], request["set"]))

    await bus.nc.subscribe("testbed.resource.>", cb=collect)
    await bus.nc.flush()
    return seen


async def test_an_allocation_reaches_the_testbed_and_is_read_back(broker, bus, sets, tmp_path):
    await put_spec(bus)
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    async with acting_on_testbed(broker, bus, tmp_path):
        await bus.publish(allocation(7, forecast_made_at=made_at))
        await reported(bus, (7, "applied"), (7, "verified"))
        await reported(bus, (7, "applied"), (7, "verified"), resource=BANDWIDTH)
        assert (await value_of(bus, CPU), await value_of(bus, BANDWIDTH)) == (2000.0, 20.0)
        published = await reports(bus)
    assert sorted(sets) == [(CPU, 2000.0), (BANDWIDTH, 20.0)]
    assert {(r.driver, r.forecast_made_at) for r in published} == {("testbed", made_at)}
    assert {(r.requested, r.observed) for r in published if r.state == "verified"} == {(2000.0,) * 2, (20.0,) * 2}


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_the_actuator_changes_nothing(broker, bus, sets, tmp_path, how):
    await put_spec(bus)
    async with emulating(broker, bus, tmp_path):
        async with actuating(broker) as process:
            await bus.publish(allocation())
            await reported(bus, (1, "applied"), (1, "verified"))
            await reported(bus, (1, "applied"), (1, "verified"), resource=BANDWIDTH)
            if how == "kill":
                process.task.cancel()
                await asyncio.wait({process.task})
        async with actuating(broker):
            await reported(bus, (1, "applied"), (1, "verified"), (1, "verified"))
            await reported(bus, (1, "applied"), (1, "verified"), (1, "verified"), resource=BANDWIDTH)
    assert len(sets) == 2


async def test_the_actuator_puts_back_at_its_start_what_was_changed_meanwhile(broker, bus, sets, tmp_path):
    await put_spec(bus)
    await bus.publish(allocation())
    async with acting_on_testbed(broker, bus, tmp_path):
        await reported(bus, (1, "applied"), (1, "verified"))
        assert await value_of(bus, CPU) == 2000.0


async def test_a_lower_epoch_is_refused_also_after_a_restart(broker, bus, sets, tmp_path):
    await put_spec(bus)
    async with emulating(broker, bus, tmp_path):
        async with actuating(broker):
            await bus.publish(allocation(5))
            await reported(bus, (5, "applied"), (5, "verified"))
            await bus.publish(allocation(4, {CPU: 300.0, BANDWIDTH: 3.0}))
            await reported(bus, (5, "applied"), (5, "verified"), (4, "refused"))
            assert "epoch 4 is lower than 5" in (await eventually(lambda: dead_letters(bus)))[0]
        async with actuating(broker):
            await eventually(lambda: _has(bus, (4, "refused"), 2))
            await eventually(lambda: _has(bus, (5, "verified"), 2))
            assert await value_of(bus, CPU) == 2000.0
    assert len(sets) == 2


async def _has(bus, state, times):
    return (await states(bus)).count(state) == times


async def test_a_value_out_of_bounds_refuses_all_of_the_allocation(broker, bus, sets, tmp_path):
    await put_spec(bus)
    async with acting_on_testbed(broker, bus, tmp_path):
        await bus.publish(allocation(1, {CPU: 4501.0, BANDWIDTH: 20.0}))
        await reported(bus, (1, "refused"))
        await reported(bus, (1, "refused"), resource=BANDWIDTH)
        (error,) = await eventually(lambda: dead_letters(bus))
        assert "gnb_cpu 4501 is above the ceiling 4500" in error
        await bus.publish(allocation(2))
        await reported(bus, (1, "refused"), (2, "applied"), (2, "verified"))
    assert (CPU, 4501.0) not in sets


async def test_an_allocation_waits_until_the_testbed_is_there_and_again_when_it_is_new(broker, bus, tmp_path):
    await put_spec(bus)
    async with actuating(broker):
        await bus.publish(allocation())
        await reported(bus, (1, "failed"))
        assert "is the testbed running?" in (await reports(bus))[0].error
        async with emulating(broker, bus, tmp_path):
            await reported(bus, (1, "failed"), (1, "applied"), (1, "verified"))
        async with emulating(broker, bus, tmp_path):  # a new one, which begins with its own values
            await eventually(lambda: _has(bus, (1, "verified"), 2))
            assert await value_of(bus, CPU) == 2000.0


async def test_an_allocation_before_its_spec_is_taken_once_the_spec_is_there(broker, bus, tmp_path):
    async with acting_on_testbed(broker, bus, tmp_path):
        await bus.publish(allocation())
        await put_spec(bus)
        await reported(bus, (1, "applied"), (1, "verified"))


async def test_once_an_allocation_has_expired_the_blind_policy_of_its_slice_rules(broker, bus, tmp_path):
    before, fresh = {CPU: 2000.0, BANDWIDTH: 47.0}, {CPU: 2100.0, BANDWIDTH: 21.0}
    slices = {SLICE: "hold", "2": "peak", "3": "max"}
    expected = {SLICE: (2000.0, 47.0), "2": (4400.0, 45.0), "3": (4400.0, 47.0)}
    for name, policy in slices.items():
        await put_spec(bus, name, blind_policy=policy, peak_allocation=PEAK)

    async def in_force():
        return {name: (await value_of(bus, CPU, name), await value_of(bus, BANDWIDTH, name)) for name in slices}

    async def is_in_force(values):
        return await in_force() == values

    async def is_reported(values):
        found = [r for r in await reports(bus) if r.slice == SLICE and r.resource == CPU]
        return {(r.epoch, r.requested) for r in found} == values

    async with acting_on_testbed(broker, bus, tmp_path, "2", "3"):
        for name in slices:
            await bus.publish(allocation(3, before, slice=name, valid_s=1.5))
        await eventually(lambda: is_in_force(expected))
        assert datetime.now(UTC) > (await last_allocation(bus)).valid_until
        for name in slices:
            await bus.publish(allocation(4, fresh, slice=name))
        await eventually(lambda: is_in_force(dict.fromkeys(slices, (2100.0, 21.0))))
        await eventually(lambda: is_reported({(3, 2000.0), (4, 2100.0)}))  # which comes after it is in force
        assert {r.epoch for r in await reports(bus) if r.requested == PEAK[CPU]} == {3}


async def last_allocation(bus):
    message = await bus.js.get_last_msg(streams.ALLOCATIONS, f"microopt.allocation.{SLICE}")
    return msgspec.json.decode(message.data, type=Allocation)


async def test_the_actuator_goes_on_after_the_server_was_killed_and_restarted(broker, bus, tmp_path):
    await put_spec(bus)
    async with acting_on_testbed(broker, bus, tmp_path):
        await bus.publish(allocation(1))
        await reported(bus, (1, "applied"), (1, "verified"))
        await broker.kill()
        await asyncio.sleep(0.3)
        await broker.start()
        await bus.publish(allocation(2, {CPU: 2500.0, BANDWIDTH: 20.0}))
        await eventually(lambda: _has(bus, (2, "verified"), 1), within_s=30)
        assert await value_of(bus, CPU) == 2500.0


async def test_the_testbed_driver_tells_what_passes_from_what_does_not(broker, bus, tmp_path):
    driver = testbed_driver.TestbedDriver(bus.nc, timeout_s=0.2)
    with pytest.raises(TemporaryError, match=r"nobody serves testbed\.resource\.1-000001\.gnb_cpu"):
        await driver.read(f"{SLICE}.{CPU}")
    async with emulating(broker, bus, tmp_path):
        assert await driver.read(f"{SLICE}.{CPU}") == 4000.0
        write = await driver.plan(f"{SLICE}.{CPU}", 1234.567)
        await driver.apply(write)
        assert write.is_held_by(await driver.read(f"{SLICE}.{CPU}"))
        with pytest.raises(PermanentError, match="'gpu'"):
            await driver.read(f"{SLICE}.gpu")
        with pytest.raises(PermanentError, match="at least 0"):
            await driver.apply(await driver.plan(f"{SLICE}.{CPU}", -1.0))
        with pytest.raises(PermanentError, match=r"write <slice>\.<resource>"):
            await driver.read("with space")


async def test_a_testbed_that_does_not_answer_or_answers_nonsense_is_told_apart(bus):
    answers = [b"", b"nonsense", b"{}"]

    async def answer(message):
        if data := answers.pop(0):
            await message.respond(data)

    await bus.nc.subscribe("testbed.resource.>", cb=answer)
    driver = testbed_driver.TestbedDriver(bus.nc, timeout_s=0.2)
    with pytest.raises(TemporaryError, match=r"no answer within 0\.2 s"):
        await driver.read("1.a")
    with pytest.raises(PermanentError, match="the answer is not the testbed's"):
        await driver.read("1.a")
    with pytest.raises(PermanentError, match="neither value nor error"):
        await driver.read("1.a")


async def test_without_a_connection_nothing_is_left_behind_to_be_obeyed_later(broker, bus):
    driver = testbed_driver.TestbedDriver(bus.nc, timeout_s=0.2)
    await broker.kill()
    await eventually(lambda: not bus.nc.is_connected)
    with pytest.raises(TemporaryError, match="not connected"):
        await driver.apply(await driver.plan("1.a", 1.0))


def starting(in_s):
    return {"interval": Interval(datetime.now(UTC) + timedelta(seconds=in_s), 3600.0)}


async def test_an_allocation_takes_effect_at_its_start_and_no_report_comes_before(broker, bus, sets, tmp_path):
    await put_spec(bus)
    async with acting_on_testbed(broker, bus, tmp_path):
        await bus.publish(allocation(1))
        await reported(bus, (1, "applied"), (1, "verified"))
        upcoming = allocation(2, {CPU: 3000.0, BANDWIDTH: 30.0}, **starting(1.0))
        await bus.publish(upcoming)
        await reported(bus, (1, "applied"), (1, "verified"), (2, "applied"), (2, "verified"))
        assert await value_of(bus, CPU) == 3000.0
        assert min(r.at for r in await reports(bus) if r.epoch == 2) >= upcoming.interval.start


async def is_kept(bus, epoch):
    """Return whether the actuator has kept this epoch as its newest."""
    kv = await bus.js.key_value(streams.STATE)
    return msgspec.json.decode((await kv.get(f"actuator.{SLICE}")).value, type=Allocation).epoch == epoch


async def test_after_a_restart_before_the_start_an_allocation_still_takes_effect_then(broker, bus, pods):
    await put_spec(bus)
    async with holding_pods(broker, pods):
        await bus.publish(allocation(5))
        await reported(bus, (5, "applied"), (5, "verified"))
        upcoming = allocation(6, {CPU: 3000.0}, **starting(2.5))
        await bus.publish(upcoming)
        await eventually(lambda: is_kept(bus, 6))
    async with holding_pods(broker, pods):
        await eventually(lambda: _has(bus, (6, "verified"), 1))
        assert quota(pods) == "150000 50000"
        assert min(r.at for r in await reports(bus) if r.epoch == 6) >= upcoming.interval.start


async def test_a_restart_before_the_start_holds_what_ruled_and_forgets_not_what_waits(broker, bus, pods):
    await put_spec(bus)
    async with holding_pods(broker, pods):
        await bus.publish(allocation(5))
        await reported(bus, (5, "applied"), (5, "verified"))
        await bus.publish(allocation(6, {CPU: 3000.0}, **starting(3600.0)))
        await eventually(lambda: is_kept(bus, 6))
        await bus.publish(allocation(4))  # lies on top of both in the stream
        await eventually(lambda: _has(bus, (4, "refused"), 1))
    (pods / "pods" / SLICE / "cpu.max").write_text("max 100000\n")
    async with holding_pods(broker, pods):
        await eventually(lambda: _has(bus, (5, "verified"), 2))
        assert quota(pods) == "100000 50000"
    assert "epoch 4 is lower than 6" in (await dead_letters(bus))[-1]
    assert 6 not in {r.epoch for r in await reports(bus)}


async def test_a_restart_does_not_lose_what_lies_outside_the_bounds_of_today(broker, bus, pods):
    await put_spec(bus)
    async with holding_pods(broker, pods):
        await bus.publish(allocation(1))
        await reported(bus, (1, "applied"), (1, "verified"))
    await put_spec(bus, bounds={CPU: Bounds(100.0, 1500.0), BANDWIDTH: Bounds(1.0, 50.0)})
    await bus.publish(allocation(2, {CPU: 1600.0}))
    async with holding_pods(broker, pods):
        await eventually(lambda: _has(bus, (2, "refused"), 1))
        await eventually(lambda: _has(bus, (1, "verified"), 2))
        assert quota(pods) == "75000 50000"


# --- over cgroup files ------------------------------------------------------------------------------------------


@pytest.fixture
def pods(tmp_path):
    """Make the files of a v2 hierarchy with one pod, whose limit is 4 cores."""
    root = tmp_path / "cgroup"
    pod = root / "pods" / SLICE
    pod.mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu\n")
    (root / "pods" / "cpu.max").write_text("max 100000\n")
    (pod / "cpu.max").write_text("400000 100000\n")
    return root


def holding_pods(broker, root, **changes):
    binding = {"slice": "*", "resource": CPU, "driver": "cgroup", "target": "/pods/{slice}"}
    return actuating(broker, binding, cgroup={"root": str(root), "period_us": 50_000}, **changes)


def quota(pods):
    return (pods / "pods" / SLICE / "cpu.max").read_text().strip()


async def test_cpu_is_limited_by_cgroup_and_what_is_bound_nowhere_is_left_to_others(broker, bus, pods):
    await put_spec(bus)
    async with holding_pods(broker, pods):
        await bus.publish(allocation())
        await reported(bus, (1, "applied"), (1, "verified"))
        assert quota(pods) == "100000 50000"
        assert {r.resource for r in await reports(bus)} == {CPU}
    assert await dead_letters(bus) == []


async def test_a_restart_writes_no_cgroup_file(broker, bus, pods):
    await put_spec(bus)
    async with holding_pods(broker, pods):
        await bus.publish(allocation())
        await reported(bus, (1, "applied"), (1, "verified"))
    file = pods / "pods" / SLICE / "cpu.max"
    os.utime(file, ns=(1, 1))
    async with holding_pods(broker, pods):
        await reported(bus, (1, "applied"), (1, "verified"), (1, "verified"))
        await asyncio.sleep(0.3)
    assert file.stat().st_mtime_ns == 1


async def test_a_dry_run_beside_the_actuator_writes_reports_and_remembers_nothing(broker, bus, pods):
    await put_spec(bus)
    with structlog.testing.capture_logs() as lines:
        async with holding_pods(broker, pods, dry_run=True):
            await bus.publish(allocation())
            await eventually(lambda: any(line["event"] == "verified" for line in lines))
    (said,) = [line for line in lines if line["event"] == "would_write"]
    assert said["has"] == 4000.0
    assert said["steps"] == (f"{pods}/pods/{SLICE}/cpu.max: 100000 50000",)
    assert quota(pods) == "400000 100000"
    assert await reports(bus) == []
    state = await bus.js.key_value(streams.STATE)
    with pytest.raises(nats.js.errors.NoKeysError):
        await state.keys()


async def test_the_check_says_what_is_in_force_and_what_would_be_written(broker, bus, pods, tmp_path):
    await put_spec(bus)
    async with holding_pods(broker, pods):
        await bus.publish(allocation())
        await reported(bus, (1, "applied"), (1, "verified"))
    (pods / "pods" / SLICE / "cpu.max").write_text("max 100000\n")
    config = tmp_path / "microopt.yaml"
    binding = {"slice": "*", "resource": CPU, "driver": "cgroup", "target": "/pods/{slice}"}
    table = {"actuator": {"bindings": [binding], "cgroup": {"root": str(pods)}}, "nats": {"url": broker.url}}
    config.write_bytes(msgspec.yaml.encode(table))
    done = await asyncio.to_thread(CliRunner().invoke, actuator_command, ["check", "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"slice {SLICE}",
        f"  ✓ {CPU}: cgroup /pods/{SLICE}",
        "      in force    no limit",
        "      writable    yes",
        "      allocated   2000 millicores",
        f"      would write {pods}/pods/{SLICE}/cpu.max: 200000 100000",
        f"  - {BANDWIDTH}: not bound here",
        "",
        "1 of 2 resources are bound here; 1 of them can be held",
    ]
    assert quota(pods) == "max 100000"


async def test_a_limit_that_somebody_else_wrote_is_put_back(broker, bus, pods):
    await put_spec(bus)
    async with holding_pods(broker, pods):
        await bus.publish(allocation())
        await reported(bus, (1, "applied"), (1, "verified"))
        (pods / "pods" / SLICE / "cpu.max").write_text("max 100000\n")
        await reported(bus, *[(1, "applied"), (1, "verified")] * 2)
        assert quota(pods) == "100000 50000"


async def test_a_pod_that_is_gone_holds_up_nobody_and_is_limited_once_it_is_back(broker, bus, pods):
    await put_spec(bus)
    file = pods / "pods" / SLICE / "cpu.max"
    file.unlink()
    file.parent.rmdir()
    dry = {"slice": "*", "resource": BANDWIDTH, "driver": "record", "target": "{slice}"}
    binding = {"slice": "*", "resource": CPU, "driver": "cgroup", "target": "/pods/{slice}"}
    async with actuating(broker, binding, dry, cgroup={"root": str(pods)}):
        await bus.publish(allocation())
        await reported(bus, (1, "applied"), (1, "verified"), resource=BANDWIDTH)
        await reported(bus, (1, "failed"))
        file.parent.mkdir()
        file.write_text("max 100000\n")
        await reported(bus, (1, "failed"), (1, "applied"), (1, "verified"))
    assert quota(pods) == "200000 100000"


# --- over systemd -----------------------------------------------------------------------------------------------


async def test_a_unit_is_limited_by_systemd_and_again_when_it_was_overwritten(broker, bus, dbus, fake_systemd):
    await put_spec(bus)
    unit = fake_systemd.add(f"gnb-{SLICE}.service")
    binding = {"slice": "*", "resource": CPU, "driver": "systemd", "target": "gnb-{slice}.service"}
    own = {"address": dbus.address, "root": str(fake_systemd.root)}
    async with actuating(broker, binding, systemd=own):
        await bus.publish(allocation(1, {CPU: 1234.0}))
        await reported(bus, (1, "applied"), (1, "verified"))
        assert unit.cpu_max.read_text() == "124000 100000\n"
        unit.cpu_max.write_text("50000 100000\n")
        await reported(bus, *[(1, "applied"), (1, "verified")] * 2)
        assert unit.cpu_max.read_text() == "124000 100000\n"
        assert {(r.driver, r.requested) for r in await reports(bus)} == {("systemd", 1234.0)}
    assert len(fake_systemd.sets) == 2


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"bindings": [{**TESTBED_BINDING, "driver": "cgruop"}]}, r"\[actuator\] bindings\[0\] .*'cgruop'"),
        ({"bindings": [{"slice": "1", "resource": CPU, "driver": "record"}]}, r"target.*bindings\[0\]"),
        ({"check_every_s": 0}, "check_every_s"),
        ({"binding": []}, "did you mean 'bindings'"),
    ],
)
def test_settings_that_cannot_be_used_are_named(table, error):
    with pytest.raises(ConfigError, match=error):
        actuator.build(Settings({"actuator": table}, "test"))
