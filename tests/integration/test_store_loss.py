"""JetStream comes back empty while agents live: what they know is written again, and what was deleted is not."""

import asyncio
import shutil
from datetime import UTC, datetime

import pytest
from nats.errors import Error as NatsError

from microopt import codec, desired, streams, subjects
from microopt.agent import Agent
from microopt.errors import ConfigError
from microopt.messages import Allocation, Held, Holding, Holdings, Problem, SliceSolution, Solution
from microopt.settings import Settings
from microopt.specs import Margin, PoolSpec, Route, SliceSpec
from microopt.testing import eventually, running
from microopt_optimizer.router.agent import build
from microopt_optimizer.router.restoring import Restoring
from microopt_optimizer.router.state import RouterState
from real.actuator import actuating, allocate, reaches

BANDWIDTH, CPU = "transport_bandwidth", "gnb_cpu"
BINDINGS = [{"slice": "*", "resource": "*", "driver": "record", "target": "{slice}.{resource}"}]
FAST = {"gather_s": 0.3, "retry_s": 0.05, "answer_within_s": 1.0, "check": "off", "lease_s": 2.0}
FILE = """
pools:
  edge:
    resources:
      gnb_cpu: {unit: millicores, weight: 0.0002, capacity: 9000}
slices:
  1: &slice
    pool: edge
    model: embb
    sla: {qos_threshold: 4, degradation_threshold: 0.1}
    bounds:
      gnb_cpu: {floor: 500, ceiling: 4500}
  2: *slice
routes:
  edge: {active: microopt}
"""


def router(**changes) -> Agent:
    return build(Settings({"router": {**FAST, **changes}}, "test"))


def optimizer(asked, cpu=1000.0) -> Agent:
    agent = Agent("optimizer-one")

    @agent.endpoint("one", subjects.optimize("one"), Problem)
    async def solve(problem, _):
        asked.append(problem)
        values = {BANDWIDTH: 20.0, CPU: cpu}
        slices = [SliceSolution(slice=s.slice, allocation=values, status="optimal") for s in problem.slices]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="one", slices=slices)

    return agent


async def lose_the_store(broker):
    await broker.kill()
    await asyncio.to_thread(shutil.rmtree, broker.store_dir / "jetstream")
    await broker.start()


async def entries(bus, kind):
    try:
        return (await desired.get_all(bus, kind))[0]
    except NatsError:  # the bucket is not there yet
        return {}


async def last(bus, slice_):
    message = await bus.js.get_last_msg(streams.ALLOCATIONS, f"microopt.allocation.{slice_}")
    return codec.decode(message.data, Allocation, origin=message.subject)


async def count(bus):
    return (await bus.js.stream_info(streams.ALLOCATIONS)).state.messages


@pytest.fixture
async def world(bus, make_pool, make_slice):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    for name in ("1", "2"):
        await bus.put_spec(streams.SLICES, name, make_slice(name, peak_allocation={BANDWIDTH: 20.0, CPU: 4000.0}))
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one"))
    await bus.put_spec(streams.MARGINS, "1", Margin(slice="1", degradation_threshold=0.05))


async def interval(bus, make_forecast, *, at_least=2):
    """Forecast an interval of both slices until it is allocated: who was just lost may need a moment."""
    start = datetime.now(UTC)
    for name in ("1", "2"):
        await bus.publish(make_forecast(name, start=start, duration_s=30.0))
    await eventually(lambda: _allocated(bus, at_least), within_s=30, what="allocations")
    return {name: await last(bus, name) for name in ("1", "2")}


async def _allocated(bus, at_least):
    return await count(bus) >= at_least


async def test_the_loop_goes_on_after_the_store_was_lost_and_smooths_what_is_in_force(
    bus, broker, world, make_forecast
):
    """The router's memory is lost as well: only the actuator knows what is in force."""
    asked = []
    async with actuating(broker.url, bindings=BINDINGS):
        async with running(router(), broker.url), running(optimizer(asked, cpu=2000.0), broker.url):
            before = await interval(bus, make_forecast)
            await eventually(lambda: _verified(bus, 4))
        pools, slices = await entries(bus, PoolSpec), await entries(bus, SliceSpec)
        await lose_the_store(broker)
        await eventually(lambda: _has(bus, streams.STATE), within_s=40)
        for name, spec in slices.items():
            await bus.put_spec(streams.SLICES, name, spec)
        await bus.put_spec(streams.POOLS, "edge", pools["edge"])
        await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one"))
        async with running(router(), broker.url), running(optimizer(asked, cpu=500.0), broker.url):
            after = await interval(bus, make_forecast)
    for name in ("1", "2"):
        assert after[name].epoch > before[name].epoch
        assert after[name].values == {BANDWIDTH: 20.0, CPU: 1000.0}  # half of what is in force, not of Peak-alloc
    assert {one.slice: one.current for one in asked[-1].slices} == {n: before[n].values for n in before}


async def test_epochs_begin_above_what_actuators_have_accepted_whatever_the_clock_says(
    bus, broker, world, make_forecast
):
    """As after a router whose clock was years ahead."""
    asked, epoch, held = [], 9_000_000_000, {CPU: 1000.0, BANDWIDTH: 30.0}
    async with actuating(broker.url, bindings=BINDINGS):
        for name in ("1", "2"):
            await allocate(bus, epoch, held, slice_=name)
            for resource in held:
                await reaches(bus, epoch, "verified", slice_=name, resource=resource)
        await bus.js.purge_stream(streams.ALLOCATIONS)
        async with running(router(), broker.url), running(optimizer(asked), broker.url):
            found = await interval(bus, make_forecast)
            await reaches(bus, found["1"].epoch, "verified", slice_="1")
    assert min(one.epoch for one in found.values()) > epoch
    assert [one.current for one in asked[0].slices] == [held, held]


async def test_an_actuator_that_comes_after_the_router_leads_is_asked_before_the_first_decision_and_not_again(
    bus, broker, world, make_forecast
):
    asked, questions, late = [], [], Agent("late-actuator")
    held = {"1": {BANDWIDTH: 30.0, CPU: 3000.0}, "2": {BANDWIDTH: 30.0}}

    @late.endpoint("held", subjects.HELD, Held, shared=False)
    async def answer(question, _):
        questions.append(set(question.slices))
        return Holdings(slices=[Holding(slice=name, epoch=7, values=values) for name, values in held.items()])

    async with running(router(), broker.url):
        await eventually(lambda: _leads(bus))
        async with running(late, broker.url), running(optimizer(asked), broker.url):
            await eventually(lambda: _serves(bus))
            questions.clear()
            await interval(bus, make_forecast)
            await interval(bus, make_forecast, at_least=4)
    assert questions == [{"1", "2"}]
    current = {one.slice: one.current for one in asked[0].slices}
    assert current == {"1": held["1"], "2": {BANDWIDTH: 20.0, CPU: 4000.0}}


async def _leads(bus):
    try:
        return await (await bus.js.key_value(streams.STATE)).get("lease.edge")
    except NatsError:
        return None


async def _serves(bus):
    return await bus.request_all(subjects.HELD, Held(), Holdings, within_s=5.0, quiet_s=0.2)


async def _followed(bus, *buckets):
    """Return whether everybody who watches has handled all that is in the buckets."""
    consumers = [one for bucket in buckets for one in await bus.js.consumers_info(f"KV_{bucket}")]
    return consumers and all(one.num_pending == 0 and one.num_ack_pending == 0 for one in consumers)


async def _verified(bus, at_least):
    return (await bus.js.stream_info(streams.ACTUATIONS)).state.messages >= 2 * at_least


async def _has(bus, bucket):
    try:
        return await bus.js.key_value(bucket)
    except NatsError:
        return False


async def test_a_living_router_writes_back_what_it_knows_and_not_what_was_deleted(
    bus, broker, world, make_slice, make_forecast
):
    asked = []
    await bus.put_spec(streams.SLICES, "3", make_slice("3"))
    async with running(router(), broker.url), running(optimizer(asked), broker.url):
        before = await interval(bus, make_forecast)
        await (await bus.js.key_value(streams.SLICES)).delete("3")
        await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one", reason="changed"))
        await eventually(lambda: _followed(bus, streams.SLICES, streams.ROUTES))
        await lose_the_store(broker)
        await eventually(lambda: entries(bus, Margin), within_s=40)
        assert set(await entries(bus, SliceSpec)) == {"1", "2"}
        assert set(await entries(bus, PoolSpec)) == {"edge"}
        assert (await entries(bus, Route))["edge"].reason == "changed"
        assert (await entries(bus, Margin))["1"].degradation_threshold == 0.05
        after = await interval(bus, make_forecast)
    assert after["1"].epoch > before["1"].epoch
    assert asked[-1].slices[0].current == before["1"].values  # nobody but the router knew that


def restoring(bus, state, tmp_path=None):
    if tmp_path is None:
        return Restoring(bus, state, "")
    path = tmp_path / "slices.yaml"
    path.write_text(FILE)
    return Restoring(bus, state, str(path))


async def test_a_file_fills_what_never_stood_there_and_overwrites_and_revives_nothing(bus, make_slice, tmp_path):
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
    await bus.put_spec(streams.SLICES, "2", make_slice("2"))
    await (await bus.js.key_value(streams.SLICES)).delete("2")
    keeper = restoring(bus, RouterState(), tmp_path)
    await keeper.look()
    assert set(await entries(bus, SliceSpec)) == {"1"}
    assert set(await entries(bus, PoolSpec)) == {"edge"}
    assert (await entries(bus, Route))["edge"].active == "peak"

    await bus.js.purge_stream(f"KV_{streams.ROUTES}")
    await keeper.look()
    assert (await entries(bus, Route))["edge"].active == "microopt"


async def test_what_this_router_saw_deleted_does_not_come_back_from_the_file_after_a_loss(bus, tmp_path):
    state = RouterState()
    keeper = restoring(bus, state, tmp_path)
    await keeper.look()
    assert set(await entries(bus, SliceSpec)) == {"1", "2"}
    state.note(streams.SLICES, "2", None)
    await bus.js.delete_key_value(streams.SLICES)
    await keeper.look()
    assert set(await entries(bus, SliceSpec)) == {"1"}


async def test_into_a_bucket_that_somebody_began_anew_nothing_is_written_from_memory(bus, make_slice):
    state = RouterState(slices={"1": make_slice("1"), "2": make_slice("2")})
    await bus.put_spec(streams.SLICES, "1", make_slice("1", priority=7))
    await restoring(bus, state).look()
    assert {name: one.priority for name, one in (await entries(bus, SliceSpec)).items()} == {"1": 7}
    await (await bus.js.key_value(streams.SLICES)).delete("1")
    await restoring(bus, state).look()
    assert await entries(bus, SliceSpec) == {}


def test_a_file_that_cannot_be_used_is_an_error_of_the_settings(tmp_path):
    path = tmp_path / "slices.yaml"
    path.write_text("pols: {}")
    with pytest.raises(ConfigError, match="expected the tables pools, slices and routes"):
        router(desired=str(path))
