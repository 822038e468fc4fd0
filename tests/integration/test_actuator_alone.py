"""The actuator when its bus is gone, and when telemetry says what its values do; on files laid out as cgroups."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from nats.js.errors import NotFoundError

from microopt import streams, subjects
from microopt.messages import Telemetry
from microopt.testing import eventually
from real.actuator import (
    BANDWIDTH,
    CPU,
    ONE,
    TWO,
    actuating,
    allocate,
    bound,
    put_pool,
    put_slice,
    reaches,
    reports,
)

PEAK = {CPU: 4400.0, BANDWIDTH: 45.0}


@pytest.fixture
def tree(tmp_path):
    """Make the files of a v2 hierarchy with a cgroup for each slice."""
    root = tmp_path / "cgroup"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpu\n")
    for slice_ in (ONE, TWO):
        (root / slice_).mkdir()
        (root / slice_ / "cpu.max").write_text("max 100000\n")
    return root


def quota(tree, slice_=ONE) -> str:
    return (tree / slice_ / "cpu.max").read_text().strip()


async def has(tree, expected, slice_=ONE) -> None:
    await eventually(lambda: quota(tree, slice_) == expected, what=f"{slice_} has {expected}")


@pytest.fixture
async def holding(broker, bus, tree):
    await put_pool(bus)
    async with actuating(broker.url, bindings=[bound(CPU, "cgroup", "/{slice}", "*")], cgroup={"root": str(tree)}):
        yield


@pytest.mark.usefixtures("holding")
async def test_without_the_bus_values_are_held_until_they_expire_and_then_the_blind_policy_rules(
    broker, bus, tree
):
    await put_slice(bus, ONE, blind_policy="peak", peak_allocation=PEAK)
    await put_slice(bus, TWO, blind_policy="peak", peak_allocation=PEAK)
    allocation = await allocate(bus, 1, {CPU: 2000.0}, valid_s=10.0)
    await allocate(bus, 1, {CPU: 3000.0}, slice_=TWO)
    for slice_ in (ONE, TWO):
        await reaches(bus, 1, "verified", slice_=slice_)
    await broker.kill()

    (tree / ONE / "cpu.max").write_text("max 100000\n")
    await has(tree, "200000 100000")
    assert datetime.now(UTC) < allocation.valid_until
    await has(tree, "440000 100000")
    assert datetime.now(UTC) >= allocation.valid_until
    (tree / TWO / "cpu.max").write_text("max 100000\n")
    await has(tree, "300000 100000", TWO)

    await broker.start()
    await reaches(bus, 1, "verified", times=3, within_s=60.0)  # at first, put back, and the peak: none was lost
    assert [r.requested for r in await reports(bus, ONE) if r.state == "verified"] == [2000.0, 2000.0, 4400.0]
    await allocate(bus, 2, {CPU: 1000.0})
    await reaches(bus, 2, "verified", within_s=60.0)
    assert quota(tree) == "100000 100000"


async def use(bus, slot: int, since: datetime, **usage: float) -> None:
    """Say what the slice used in a slot."""
    time = since + timedelta(seconds=slot)
    await bus.publish(Telemetry(slice=ONE, time=time, slot_s=1.0, users=3.0, qos=4.5, usage=usage))


@pytest.mark.usefixtures("holding")
async def test_telemetry_shows_a_value_at_work_and_three_slots_beyond_it_that_it_is_not(bus):
    await put_slice(bus)
    await use(bus, 0, datetime.now(UTC), gnb_cpu=3900.0)  # the stream's first
    await allocate(bus, 1, {CPU: 2000.0})
    since = (await reaches(bus, 1, "verified")).at + timedelta(seconds=1)
    await use(bus, 0, since, gnb_cpu=1900.0)
    report = await reaches(bus, 1, "effective")
    assert (report.requested, report.observed, report.error) == (2000.0, 1900.0, "")

    for slot in (1, 2):
        await use(bus, slot, since, gnb_cpu=3000.0)
    await use(bus, 3, since, gnb_cpu=1950.0)  # so that two in a row were no verdict
    for slot in (4, 5, 6):
        await use(bus, slot, since, gnb_cpu=3000.0 + slot)
    report = await reaches(bus, 1, "ineffective")
    assert report.observed == 3006.0
    assert f"/{ONE} reads 2000, but the slice uses 3006: is it bound to the right target?" in report.error

    await use(bus, 7, since, gnb_cpu=1950.0)
    await reaches(bus, 1, "effective", times=2)
    states = [r.state for r in await reports(bus)]
    assert states == ["applied", "verified", "effective", "ineffective", "effective"]


@pytest.mark.usefixtures("holding")
async def test_telemetry_of_before_the_value_or_without_its_resource_says_nothing(bus):
    await put_slice(bus)
    await allocate(bus, 1, {CPU: 2000.0})
    at = (await reaches(bus, 1, "verified")).at
    for slot in range(1, 5):
        await use(bus, -slot, at, gnb_cpu=3900.0)
        await use(bus, slot, at, transport_bandwidth=10.0)
    await use(bus, 9, at, gnb_cpu=1900.0)
    await reaches(bus, 1, "effective")
    assert [r.state for r in await reports(bus)] == ["applied", "verified", "effective"]


async def test_killed_without_the_bus_and_started_again_it_waits_for_the_bus_and_lets_the_blind_policy_rule(
    broker, bus, tree, actuator_process
):
    await put_pool(bus)
    await put_slice(bus, ONE, blind_policy="peak", peak_allocation=PEAK)
    await put_slice(bus, TWO, blind_policy="peak", peak_allocation=PEAK)
    process = actuator_process(bound(CPU, "cgroup", "/{slice}", "*"), cgroup={"root": str(tree)})
    await process.start()
    allocation = await allocate(bus, 1, {CPU: 2000.0}, valid_s=3.0)
    await allocate(bus, 1, {CPU: 3000.0}, slice_=TWO)
    for slice_ in (ONE, TWO):
        await reaches(bus, 1, "verified", slice_=slice_)
    await broker.kill()
    await process.kill()
    starting = asyncio.create_task(process.start())
    await eventually(lambda: datetime.now(UTC) > allocation.valid_until)
    assert (quota(tree), quota(tree, TWO)) == ("200000 100000", "300000 100000")
    (tree / TWO / "cpu.max").write_text("max 100000\n")
    await broker.start()
    await starting
    await has(tree, "440000 100000")
    await has(tree, "300000 100000", TWO)


async def test_pools_and_slices_that_are_lost_are_waited_for_and_what_was_accepted_is_held_again(
    broker, bus, tree, actuator_process
):
    await put_pool(bus)
    await put_slice(bus)
    process = actuator_process(bound(CPU, "cgroup", "/{slice}", "*"), cgroup={"root": str(tree)})
    await process.start()
    await allocate(bus, 1, {CPU: 2000.0})
    await reaches(bus, 1, "verified")
    await process.kill()
    for bucket, key in ((streams.POOLS, "edge"), (streams.SLICES, ONE)):
        await (await bus.js.key_value(bucket)).delete(key)
    (tree / ONE / "cpu.max").write_text("max 100000\n")
    await process.start()
    await allocate(bus, 2, {CPU: 3000.0})
    await put_slice(bus)
    await asyncio.sleep(7.0)  # longer than a message that cannot be handled is tried
    assert quota(tree) == "max 100000"
    await put_pool(bus)
    await has(tree, "300000 100000")
    assert {(r.epoch, r.state) for r in await reports(bus)} <= {
        (epoch, state) for epoch in (1, 2) for state in ("applied", "verified")
    }


@pytest.mark.usefixtures("holding")
async def test_an_allocation_that_waited_for_its_spec_and_does_not_fit_it_is_refused(bus, tree):
    await allocate(bus, 2, {CPU: 99.0})
    await allocate(bus, 1, {CPU: 2000.0}, slice_=TWO)
    await asyncio.sleep(0.5)
    await put_slice(bus, ONE)
    report = await reaches(bus, 2, "refused")
    assert "gnb_cpu 99 is below the floor 100" in report.error
    letter = await eventually(lambda: dead_letter(bus))
    assert "gnb_cpu 99 is below the floor 100" in letter.headers["Microopt-Error"]
    assert letter.headers["Microopt-Subject"] == f"microopt.allocation.{ONE}"
    await put_slice(bus, TWO)
    await reaches(bus, 1, "verified", slice_=TWO)
    await allocate(bus, 3, {CPU: 1000.0})
    await reaches(bus, 3, "verified")


async def dead_letter(bus):
    try:
        return await bus.js.get_last_msg(streams.DEAD, subjects.dead("actuator"))
    except NotFoundError:
        return None
