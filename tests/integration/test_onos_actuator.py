"""The actuator as a process over ONOS: allocations become rates of flows, and stay so."""

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fakes.onos import PASSWORD, FakeOnos
from microopt import streams
from microopt.messages import Actuation, Allocation, Interval
from microopt.settings import Settings
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt.testing import eventually, running
from microopt_actuator import agent as actuator

DEVICE, OTHER_DEVICE = "of:0000000000000050", "of:0000000000000051"
SLICE, OTHER = "1-000001", "1-000002"
BANDWIDTH = "transport_bandwidth"


@pytest.fixture
async def fake():
    async with FakeOnos(DEVICE, OTHER_DEVICE) as server:
        yield server


@pytest.fixture
def holding(broker, fake, tmp_path):
    """Run an actuator that holds two slices, each on a device of its own."""
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    selector = {"ipv4_src": "10.10.3.1/32"}
    table = {
        "bindings": [{"slice": "*", "resource": BANDWIDTH, "driver": "onos", "target": "{slice}"}],
        "check_every_s": 0.1,
        "onos": {
            "url": fake.url,
            "password_file": str(password),
            "timeout_s": 0.3,
            "flows": {
                SLICE: {"device": DEVICE, "selector": selector},
                OTHER: {"device": OTHER_DEVICE, "selector": selector},
            },
        },
    }

    @asynccontextmanager
    async def run():
        agent = actuator.build(Settings({"actuator": table}, "test"))
        async with running(agent, broker.url) as process:
            yield process

    return run


async def put_specs(bus):
    resources = {BANDWIDTH: ResourceSpec(unit="Mbit/s", weight=1.0, capacity=100.0)}
    await bus.put_spec(streams.POOLS, "edge", PoolSpec(pool="edge", resources=resources))
    for name in (SLICE, OTHER):
        spec = SliceSpec(
            slice=name,
            pool="edge",
            sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
            bounds={BANDWIDTH: Bounds(1.0, 50.0)},
            model="embb",
        )
        await bus.put_spec(streams.SLICES, name, spec)


async def allocate(bus, epoch, mbps, slice_=SLICE):
    now = datetime.now(UTC)
    allocation = Allocation(
        slice=slice_,
        epoch=epoch,
        pool="edge",
        interval=Interval(now, 3600.0),
        values={BANDWIDTH: mbps},
        valid_until=now + timedelta(hours=1),
        optimizer="microopt",
        status="optimal",
    )
    await bus.publish(allocation)


async def reports(bus, slice_=SLICE):
    info = await bus.js.stream_info(streams.ACTUATIONS)
    messages = [await bus.js.get_msg(streams.ACTUATIONS, seq) for seq in range(1, info.state.last_seq + 1)]
    found = [msgspec.json.decode(m.data, type=Actuation) for m in messages]
    return [one for one in found if one.slice == slice_]


async def reaches(bus, epoch, state, slice_=SLICE, times=1):
    async def probe():
        return [one for one in await reports(bus, slice_) if (one.epoch, one.state) == (epoch, state)][times - 1 :]

    return (await eventually(probe, what=f"{slice_} {epoch} {state}"))[0]


async def test_an_allocation_becomes_a_rate_and_a_flow_that_somebody_deletes_comes_back(
    broker, bus, fake, holding
):
    await put_specs(bus)
    async with holding():
        await allocate(bus, 1, 20.0)
        report = await reaches(bus, 1, "verified")
        assert (report.driver, report.observed) == ("onos", 20.0)
        await allocate(bus, 2, 30.0)
        await reaches(bus, 2, "verified")
        assert fake.rates(DEVICE) == [30_000]
        fake.delete_flows(DEVICE)
        await reaches(bus, 2, "verified", times=2)
        assert fake.rates(DEVICE) == [30_000]
    assert [(one.epoch, one.state) for one in await reports(bus)] == [
        *[(1, "applied"), (1, "verified")],
        *[(2, "applied"), (2, "verified")] * 2,
    ]


@pytest.mark.parametrize(
    ("trouble", "reason"), [("500", "500 .*the store is away"), ("hangs", r"no answer within 0\.3 s")]
)
async def test_trouble_with_one_device_is_told_and_holds_up_no_other_slice(
    broker, bus, fake, holding, trouble, reason
):
    async def make_trouble(method, path):
        if path.startswith(f"meters/{DEVICE}") and method == "POST":
            if trouble == "hangs":
                await asyncio.Event().wait()
            return 500
        return None

    await put_specs(bus)
    async with holding():
        await allocate(bus, 1, 20.0)
        await reaches(bus, 1, "verified")
        fake.trouble = make_trouble
        await allocate(bus, 2, 30.0)
        await allocate(bus, 1, 10.0, OTHER)
        report = await reaches(bus, 2, "failed")
        await reaches(bus, 1, "verified", OTHER)
        assert fake.rates(DEVICE) == [20_000]
        fake.trouble = None
        await reaches(bus, 2, "verified")
    assert re.search(rf"POST /meters/{DEVICE}: {reason}", report.error)
    assert fake.rates(DEVICE) == [30_000]


@pytest.mark.parametrize("last", ["POST meters", "POST flows"])
async def test_an_actuator_that_was_killed_between_make_and_break_goes_on_from_there(
    broker, bus, fake, holding, last
):
    got = asyncio.Event()

    async def stop_answering(method, path):
        if got.is_set():
            await asyncio.Event().wait()
        if f"{method} {path}" == f"{last}/{DEVICE}":
            got.set()

    await put_specs(bus)
    async with holding() as process:
        await allocate(bus, 1, 20.0)
        await reaches(bus, 1, "verified")
        fake.trouble = stop_answering
        await allocate(bus, 2, 30.0)
        await got.wait()
        process.task.cancel()
        await asyncio.wait({process.task})
    fake.trouble = None
    async with holding():
        await reaches(bus, 2, "verified")
        await allocate(bus, 3, 40.0)
        await reaches(bus, 3, "verified")
    assert fake.rates(DEVICE) == [40_000]
    assert len(fake.meters(DEVICE)) == 1
