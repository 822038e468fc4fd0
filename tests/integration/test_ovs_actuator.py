"""The actuator as a process over Open vSwitch: allocations become rates, and TCP gets as much."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from microopt import streams
from microopt.messages import Actuation, Allocation, Interval
from microopt.settings import Settings
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt.testing import eventually, running
from microopt_actuator import agent as actuator
from real.switch import Transfer

pytestmark = pytest.mark.root

SLICE = "1-000001"
BANDWIDTH = "transport_bandwidth"


@pytest.fixture
def holding(broker, switch):
    """Run an actuator that holds a slice's rate, on the queue with its tag."""
    binding = {"slice": "*", "resource": BANDWIDTH, "driver": "ovs", "target": "slice={slice}"}
    own = {"remote": switch.remote, "timeout_s": 0.5, "settle_s": 0.5}
    table = {"bindings": [binding], "check_every_s": 0.1, "ovs": own}

    @asynccontextmanager
    async def run():
        agent = actuator.build(Settings({"actuator": table}, "test"))
        async with running(agent, broker.url) as process:
            yield process

    return run


def shape(switch):
    """Give port v0 a queue with the slice's tag, and return its QoS."""
    qos = switch.shape("v0", 0)
    switch.vsctl("set", "queue", switch.queue("v0", 0), f"external_ids:slice={SLICE}")
    return qos


async def put_spec(bus):
    resources = {BANDWIDTH: ResourceSpec(unit="Mbit/s", weight=1.0, capacity=100.0)}
    await bus.put_spec(streams.POOLS, "edge", PoolSpec(pool="edge", resources=resources))
    spec = SliceSpec(
        slice=SLICE,
        pool="edge",
        sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
        bounds={BANDWIDTH: Bounds(1.0, 50.0)},
        model="embb",
    )
    await bus.put_spec(streams.SLICES, SLICE, spec)


async def allocate(bus, epoch, mbps):
    now = datetime.now(UTC)
    allocation = Allocation(
        slice=SLICE,
        epoch=epoch,
        pool="edge",
        interval=Interval(now, 3600.0),
        values={BANDWIDTH: mbps},
        valid_until=now + timedelta(hours=1),
        optimizer="microopt",
        status="optimal",
    )
    await bus.publish(allocation)


async def reaches(bus, epoch, state, times=1):
    async def probe():
        info = await bus.js.stream_info(streams.ACTUATIONS)
        messages = [await bus.js.get_msg(streams.ACTUATIONS, seq) for seq in range(1, info.state.last_seq + 1)]
        found = [msgspec.json.decode(m.data, type=Actuation) for m in messages]
        return [one for one in found if (one.epoch, one.state) == (epoch, state)][times - 1 :]

    return (await eventually(probe, what=f"{epoch} {state}"))[0]


async def test_tcp_gets_the_rate_that_was_allocated(bus, switch, holding):
    # A queue other than 0 needs flows that choose it, which the datapath in user space does not follow.
    receiver, sender = switch.add_host("v0", "192.0.2.1/24"), switch.add_host("v1", "192.0.2.2/24")
    shape(switch)
    await put_spec(bus)
    async with holding():
        await allocate(bus, 1, 20.0)
        report = await reaches(bus, 1, "verified")
        assert (report.driver, report.observed) == ("ovs", 20.0)
        with Transfer(sender, receiver, "192.0.2.1") as transfer:
            # What is received follows the rate at once, a busy machine's reports of it do not.
            await eventually(lambda: 10.0 < transfer.mbps(3.0) < 20.5, what="20 Mbit/s")
            await allocate(bus, 2, 5.0)
            await reaches(bus, 2, "verified")
            await eventually(lambda: 2.5 < transfer.mbps(3.0) < 5.5, what="5 Mbit/s")


async def test_what_somebody_else_sets_or_a_switch_that_dies_is_put_right(bus, switch, holding):
    switch.add_port("v0")
    shape(switch)
    await put_spec(bus)
    async with holding():
        await allocate(bus, 1, 20.0)
        await reaches(bus, 1, "verified")
        await asyncio.to_thread(
            switch.vsctl, "set", "queue", switch.queue("v0", 0), "other_config:max-rate=50000000"
        )
        await reaches(bus, 1, "verified", times=2)
        assert switch.classes("v0")[0] == ("20Mbit", "20Mbit")
        await switch.vswitchd.kill()
        await allocate(bus, 2, 30.0)
        report = await reaches(bus, 2, "failed")
        assert "is ovs-vswitchd running?" in report.error
        await switch.vswitchd.start()
        await reaches(bus, 2, "verified")
    assert switch.classes("v0")[0] == ("30Mbit", "30Mbit")


async def test_a_queue_that_somebody_deletes_is_told_at_once(bus, switch, holding):
    switch.add_port("v0")
    qos = shape(switch)
    await put_spec(bus)
    async with holding():
        await allocate(bus, 1, 20.0)
        await reaches(bus, 1, "verified")
        switch.vsctl("remove", "qos", qos, "queues", "0", "--", "destroy", "queue", switch.queue("v0", 0))
        report = await reaches(bus, 1, "failed")
        assert "no queue has these external_ids" in report.error
        tagged = ("create", "queue", f"external_ids:slice={SLICE}")
        switch.vsctl("set", "qos", qos, "queues:0=@q", "--", "--id=@q", *tagged)
        await reaches(bus, 1, "verified", times=2)
    assert switch.classes("v0")[0] == ("20Mbit", "20Mbit")
