"""Allocations and targets that cannot be: said over the bus; the last good value is held and others go on."""

import asyncio

import pytest

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

pytestmark = pytest.mark.root


@pytest.fixture
def cgroups(cgroup_of):
    return {slice_: cgroup_of(slice_) for slice_ in (ONE, TWO)}


@pytest.fixture
async def holding(broker, bus, cgroups):
    """Hold the CPU of two slices, of a pool each, at 1000 millicores; the last epoch is 5."""
    for slice_, pool in ((ONE, "edge"), (TWO, "core")):
        await put_pool(bus, pool)
        await put_slice(bus, slice_, pool=pool)
    bindings = [bound(CPU, "cgroup", one.target, slice_) for slice_, one in cgroups.items()]
    async with actuating(broker.url, bindings=bindings):
        for slice_, pool in ((ONE, "edge"), (TWO, "core")):
            await allocate(bus, 5, {CPU: 1000.0}, slice_=slice_, pool=pool)
            await reaches(bus, 5, "verified", slice_=slice_)
        yield


async def below_the_floor(bus):
    await allocate(bus, 6, {CPU: 99.0})


async def above_the_ceiling(bus):
    await allocate(bus, 6, {CPU: 4501.0})


async def without_bounds(bus):
    await allocate(bus, 6, {CPU: 2000.0, "upf_cpu": 1000.0})


async def in_another_unit(bus):
    await put_pool(bus, "edge", **{CPU: "cores"})
    await allocate(bus, 6, {CPU: 2000.0})


async def of_an_older_epoch(bus):
    await allocate(bus, 4, {CPU: 2000.0})


@pytest.mark.usefixtures("holding")
@pytest.mark.parametrize(
    ("wrong", "epoch", "said"),
    [
        (below_the_floor, 6, "gnb_cpu 99 is below the floor 100 of the slice's bounds"),
        (above_the_ceiling, 6, "gnb_cpu 4501 is above the ceiling 4500 of the slice's bounds"),
        (without_bounds, 6, "upf_cpu 1000: the slice has no bounds for it, only for gnb_cpu, transport_bandwidth"),
        (in_another_unit, 6, "pool edge counts gnb_cpu in 'cores', but its driver sets 'millicores'"),
        (of_an_older_epoch, 4, "epoch 4 is lower than 5, accepted before; is there a second router?"),
    ],
)
async def test_what_is_refused_changes_nothing_and_what_was_good_is_held_on(bus, cgroups, wrong, epoch, said):
    await wrong(bus)
    report = await reaches(bus, epoch, "refused")
    assert said in report.error
    assert (cgroups[ONE].millicores(), report.observed) == (1000.0, None)

    cgroups[ONE].limit(300.0)
    await reaches(bus, 5, "verified", times=2)
    await allocate(bus, 6, {CPU: 2000.0}, slice_=TWO, pool="core")
    await reaches(bus, 6, "verified", slice_=TWO)
    assert (cgroups[ONE].millicores(), cgroups[TWO].millicores()) == (1000.0, 2000.0)
    assert {(r.epoch, r.state) for r in await reports(bus, ONE)} == {
        (5, "applied"),
        (5, "verified"),
        (epoch, "refused"),
    }


@pytest.mark.usefixtures("holding")
async def test_after_a_refusal_the_next_good_allocation_is_taken(bus, cgroups):
    await in_another_unit(bus)
    await reaches(bus, 6, "refused")
    await put_pool(bus, "edge")
    await allocate(bus, 7, {CPU: 2000.0})
    await reaches(bus, 7, "verified")
    assert cgroups[ONE].millicores() == 2000.0


@pytest.mark.usefixtures("holding")
async def test_a_target_that_goes_is_failed_until_it_is_back_with_its_value(bus, cgroups):
    cgroups[ONE].remove()
    report = await reaches(bus, 5, "failed")
    assert f"cgroup target '{cgroups[ONE].target}' is not there" in report.error
    await allocate(bus, 6, {CPU: 2000.0}, slice_=TWO, pool="core")
    await reaches(bus, 6, "verified", slice_=TWO)
    await allocate(bus, 6, {CPU: 1500.0})
    await reaches(bus, 6, "failed")

    cgroups[ONE].make()
    await reaches(bus, 6, "verified")
    assert cgroups[ONE].millicores() == 1500.0
    cgroups[ONE].limit(300.0)
    await eventually(lambda: cgroups[ONE].millicores() == 1500.0)
    assert {r.state for r in await reports(bus, TWO)} == {"applied", "verified"}


@pytest.mark.usefixtures("holding")
async def test_a_target_that_is_made_anew_at_once_is_limited_anew_and_nobody_blamed(bus, cgroups):
    for times in range(2, 8):  # more often than somebody else may change a value
        cgroups[ONE].remove()
        cgroups[ONE].make()
        await reaches(bus, 5, "verified", times=times)
        assert cgroups[ONE].millicores() == 1000.0
    assert {r.state for r in await reports(bus, ONE)} == {"applied", "verified"}


async def test_a_queue_that_does_not_exist_is_told_and_holds_up_nobody(broker, bus, switch, cgroup_of):
    for port in ("v0", "v1"):
        switch.add_port(port)
        switch.shape(port, 7)
    cgroup = cgroup_of("cpu")
    bindings = [
        bound(BANDWIDTH, "ovs", "v0/8"),
        bound(CPU, "cgroup", cgroup.target),
        bound(BANDWIDTH, "ovs", "v1/7", TWO),
    ]
    await put_pool(bus)
    for slice_ in (ONE, TWO):
        await put_slice(bus, slice_)
    async with actuating(broker.url, bindings=bindings, ovs={"remote": switch.remote}):
        for epoch, mbps in ((1, 20.0), (2, 30.0)):
            await allocate(bus, epoch, {BANDWIDTH: mbps, CPU: 100 * mbps})
            await allocate(bus, epoch, {BANDWIDTH: mbps}, slice_=TWO)
            report = await reaches(bus, epoch, "failed", resource=BANDWIDTH)
            assert "QoS of port v0 has no queue 8; ovs-vsctl set qos" in report.error
            await reaches(bus, epoch, "verified")
            await reaches(bus, epoch, "verified", slice_=TWO, resource=BANDWIDTH)
            assert cgroup.millicores() == 100 * mbps
            assert switch.classes("v1")[7] == (f"{mbps:g}Mbit", f"{mbps:g}Mbit")
            assert switch.classes("v0")[7] == ("10Mbit", "10Mbit")
        qos = switch.vsctl("get", "port", "v0", "qos")
        assert switch.rows("queue") == 2
        switch.vsctl("set", "qos", qos, "queues:8=@q", "--", "--id=@q", "create", "queue", "other_config:x=y")
        await reaches(bus, 2, "verified", resource=BANDWIDTH)
        assert switch.classes("v0")[8] == ("30Mbit", "30Mbit")


async def test_an_interface_that_is_made_anew_is_limited_anew_and_nobody_blamed(broker, bus, htb):
    await put_pool(bus)
    await put_slice(bus)
    async with actuating(broker.url, bindings=[bound(BANDWIDTH, "tc", htb.target)]):
        await allocate(bus, 1, {BANDWIDTH: 20.0})
        await reaches(bus, 1, "verified", resource=BANDWIDTH)
        for times in range(2, 8):  # more often than somebody else may change a value
            await asyncio.to_thread(htb.begin_anew, whole=times % 2 == 0)
            await reaches(bus, 1, "verified", resource=BANDWIDTH, times=times)
            assert htb.mbps() == 20.0
        assert {r.state for r in await reports(bus)} == {"applied", "verified"}
