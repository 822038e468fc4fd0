"""The promises of the design on real processes, each killed, paused or deprived of its bus; by number:

1. *Unknown is not a number*: test_promises_of_data.py.
2. *One writer, epochs only grow*: here, the leader killed and the leader paused; integration/test_lease.py has
   pauses at each point; integration/test_actuator.py the lower epoch that is refused.
3. *Applied, verified, effective*: test_live.py, on real queues, quotas and packets.
4. *Safe when blind*: here, everything killed; integration/test_actuator.py the policies after an expiry.
5. *Floors, ceilings, capacity, no flapping*: test_promises_of_data.py.
6. *A restart or swap changes no allocation*: here, the server killed, its store lost, and routes swapped under
   load; integration/test_processes.py each process killed and started again.
7. *Infeasible is declared*: here, by a real worker.
8. *Bad input stops nothing else*: test_promises_of_data.py.
"""

import asyncio
import shutil
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import nats.errors
import nats.js.errors
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from microopt import desired, streams, subjects
from microopt.agent import Agent
from microopt.messages import Allocation, Problem, SliceSolution, Solution
from microopt.specs import Route, Sla, SliceSpec
from microopt.testing import eventually, running
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.training import FAST, train
from real.agent import AgentProcess
from real.cgroups import Cgroup

BANDWIDTH, CPU = "transport_bandwidth", "gnb_cpu"
LEASE_S = 1.0
TAKEN_OVER_S = 8 * LEASE_S
"""Generous: a lease, its polling, and a machine that is busy with others."""
ROUTER = {"gather_s": 0.2, "retry_s": 0.05, "answer_within_s": 5.0, "check": "off", "lease_s": LEASE_S}
RECORD = [{"slice": "*", "resource": "*", "driver": "record", "target": "{slice}.{resource}"}]
LEADS = 'microopt_router_leads{pool="edge"}'


def values_of(slice_: str) -> dict[str, float]:
    return {BANDWIDTH: 20.0, CPU: 1000.0 + int(slice_[2:])}


def optimizer(name: str, before_answer=None, asked=None) -> Agent:
    """Serve an optimizer that has an answer for each slice, the same whatever its name is."""
    agent = Agent(f"optimizer-{name}")

    @agent.endpoint(name, subjects.optimize(name), Problem)
    async def solve(problem, _):
        if asked is not None:
            asked.append(problem)
        if before_answer is not None:
            await before_answer(problem)
        slices = [
            SliceSolution(slice=one.slice, allocation=values_of(one.slice), status="optimal")
            for one in problem.slices
        ]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer=name, slices=slices)

    return agent


def require_one_writer(allocations: list[Allocation]) -> None:
    """Pass allocations whose epochs grow in each slice, and of which no interval has two."""
    by_slice = defaultdict(list)
    for one in allocations:
        by_slice[one.slice].append(one)
    for found in by_slice.values():
        epochs = [one.epoch for one in found]
        assert epochs == sorted(set(epochs))
        starts = [one.interval.start for one in found]
        assert starts == sorted(set(starts))


async def leader_of(*routers: AgentProcess) -> tuple[AgentProcess, AgentProcess]:
    """Return the router that leads and the one that does not, once that is settled."""

    async def probe():
        leads = [await asyncio.to_thread(router.metric, LEADS) for router in routers]
        return leads if sorted(leads, key=str) == [0.0, 1.0] else None

    leads = await eventually(probe, within_s=30, every_s=0.1, what="one leader")
    return routers[leads.index(1.0)], routers[leads.index(0.0)]


async def leads(router: AgentProcess) -> bool:
    return await asyncio.to_thread(router.metric, LEADS) == 1.0


async def follows(router: AgentProcess) -> bool:
    return await asyncio.to_thread(router.metric, LEADS) == 0.0


async def test_when_the_leader_is_killed_the_other_decides_and_no_interval_twice(world, with_slices):
    await with_slices(3)
    async with running(optimizer("one"), world.broker.url):
        routers = await asyncio.gather(*(world.start("router", **ROUTER) for _ in range(2)))
        leader, other = await leader_of(*routers)
        await world.allocated(await world.forecast(20.0))
        await leader.kill()
        start = await world.forecast(20.0)
        await eventually(lambda: leads(other), within_s=TAKEN_OVER_S, every_s=0.05, what="the other leads")
        await world.allocated(start)
        await leader.start()
        await world.allocated(await world.forecast(20.0))
        assert not await leads(leader)
    allocations = await world.allocations()
    assert len(allocations) == 9
    require_one_writer(allocations)


async def test_a_leader_that_was_paused_while_it_waited_for_an_answer_publishes_nothing_that_counts(
    world, with_slices
):
    """It comes back with an answer in its hands, to a pool that another one leads."""
    await with_slices(3)
    paused: list[AgentProcess] = []

    async def pause(_):
        for process in paused:
            process.pause()

    async with running(optimizer("one", before_answer=pause), world.broker.url):
        routers = await asyncio.gather(*(world.start("router", **ROUTER) for _ in range(2)))
        leader, other = await leader_of(*routers)
        await world.allocated(await world.forecast(20.0))
        try:
            paused.append(leader)
            start = await world.forecast(20.0)
            await eventually(lambda: leads(other), within_s=TAKEN_OVER_S + 5.0, every_s=0.05, what="it leads")
            paused.clear()
            decided = await world.allocated(start)
        finally:
            leader.resume()
        await eventually(lambda: "round_attempt_failed" in leader.log, what="it finds out")
        assert await leader_of(leader, other) == (other, leader)
        after = await world.allocated(await world.forecast(20.0))
    allocations = await world.allocations()
    assert len(allocations) == 9
    assert allocations[3:6] == decided
    assert allocations[6:] == after
    require_one_writer(allocations)


async def test_a_server_that_is_killed_and_started_again_changes_nothing_and_the_loop_goes_on(world, with_slices):
    await with_slices(3)
    wanted = {name: values_of(name) for name in world.slices}
    async with running(optimizer("one"), world.broker.url):
        router, _ = await asyncio.gather(
            world.start("router", **ROUTER), world.start("actuator", bindings=RECORD, check_every_s=0.2)
        )
        await world.allocated(await world.forecast(20.0))
        await world.holds(wanted)
        await world.broker.kill()
        await eventually(lambda: follows(router), within_s=30, what="nobody can lead meanwhile")
        await world.broker.start()
        await eventually(lambda: leads(router), within_s=30, what="it leads again")
        await world.holds(wanted)
        assert len(await world.allocations()) == 3
        await world.allocated(await world.forecast(20.0))
    allocations = await world.allocations()
    assert len(allocations) == 6
    require_one_writer(allocations)


async def lose_the_store(broker):
    await broker.kill()
    await asyncio.to_thread(shutil.rmtree, broker.store_dir / "jetstream")
    await broker.start()


async def has_desired_state(world) -> bool:
    try:
        slices, _ = await desired.get_all(world.bus, SliceSpec)
        routes, _ = await desired.get_all(world.bus, Route)
    except nats.errors.Error:  # the buckets are not there yet
        return False
    return set(slices) == set(world.slices) and set(routes) == {"edge"}


async def test_a_store_that_is_lost_changes_nothing_in_force_and_the_loop_goes_on_with_higher_epochs(
    world, with_slices
):
    """The router writes desired state again and dies then: only the actuator knows what is in force."""
    await with_slices(3)
    wanted, asked = {name: values_of(name) for name in world.slices}, []
    async with running(optimizer("one", asked=asked), world.broker.url):
        router, _ = await asyncio.gather(
            world.start("router", **ROUTER), world.start("actuator", bindings=RECORD, check_every_s=0.2)
        )
        before = await world.allocated(await world.forecast(20.0))
        await world.holds(wanted)
        await lose_the_store(world.broker)
        await eventually(lambda: has_desired_state(world), within_s=30, what="desired state is written again")
        await router.kill()
        await router.start()
        await world.holds(wanted)
        assert await world.allocations() == []
        after = await world.allocated(await world.forecast(20.0))
        await world.holds(wanted)
    assert {one.slice: one.current for one in asked[-1].slices} == wanted
    assert min(one.epoch for one in after) > max(one.epoch for one in before)


async def test_optimizers_that_agree_are_swapped_under_load_and_no_value_changes(world, with_slices):
    """Each swap comes while the optimizer that is routed to has the question in its hands."""
    interval_s, intervals, following = 3.0, 4, {"one": "two", "two": "one"}
    await with_slices(60, interval_s=interval_s)

    def swapped_by(name: str) -> Agent:
        async def swap(_):
            await world.route(following[name])

        return optimizer(name, before_answer=swap)

    async with running(swapped_by("one"), world.broker.url), running(swapped_by("two"), world.broker.url):
        await world.start("router", **ROUTER)
        start = datetime.now(UTC)
        for n in range(intervals):
            begin = start + timedelta(seconds=interval_s * n)
            await asyncio.sleep(max(0.0, (begin - datetime.now(UTC)).total_seconds() - 0.2))
            await world.forecast(interval_s, begin)
        await world.allocated(begin)
    allocations = await world.allocations()
    assert len(allocations) == intervals * 60
    assert {one.optimizer for one in allocations} == {"one", "two"}
    for one in allocations:
        assert one.values == values_of(one.slice)
        assert one.fallback == ""
    require_one_writer(allocations)


@asynccontextmanager
async def a_cgroup(name):
    cgroup = Cgroup(name)
    try:
        yield cgroup
    finally:
        cgroup.remove()


@pytest.mark.root
async def test_when_everything_dies_what_is_in_force_stays_and_nothing_changes_when_it_is_back(
    world, with_slices, tmp_path
):
    await with_slices(1)
    [name] = world.slices
    async with a_cgroup(f"microopt-promise-{tmp_path.name[-20:]}") as cgroup:
        bindings = [
            {"slice": name, "resource": CPU, "driver": "cgroup", "target": cgroup.target},
            {"slice": name, "resource": BANDWIDTH, "driver": "record", "target": "bandwidth"},
        ]
        async with running(optimizer("one"), world.broker.url):
            processes = await asyncio.gather(
                world.start("router", **ROUTER), world.start("actuator", bindings=bindings, check_every_s=0.2)
            )
            await world.allocated(await world.forecast(20.0))
            await eventually(lambda: cgroup.millicores() == values_of(name)[CPU])
            for process in processes:
                await process.kill()
            await world.broker.kill()
            assert cgroup.millicores() == values_of(name)[CPU]
            await world.broker.start()
            await asyncio.gather(*(process.start() for process in processes))
            await world.holds({name: values_of(name)})
            assert cgroup.millicores() == values_of(name)[CPU]
            assert len(await world.allocations()) == 1


def trained() -> bytes:
    """Return a model of a slice whose users share the lesser of bandwidth and a hundredth of the CPU."""
    rng = np.random.default_rng(0)
    users = rng.integers(1, 6, 600).astype(float)
    resources = np.column_stack([rng.uniform(5.0, 50.0, 600), rng.uniform(500.0, 4500.0, 600)])
    qos = np.minimum(resources[:, 0], resources[:, 1] / 100.0) / users + rng.normal(0.0, 0.2, 600)
    data = dataset_from_arrays(
        users, resources, qos.clip(0.0), names=(BANDWIDTH, CPU), units=("Mbit/s", "millicores")
    )
    torch.set_num_threads(1)
    return model_file.to_bytes(train(data, replace(FAST, epochs=30, batch_size=128), name="test"))


async def test_what_cannot_be_held_is_declared_with_the_slice_that_is_shorted_and_the_price(
    world, with_slices, make_slice, make_pool
):
    """A real worker solves and checks; the capacity is enough for one of two slices, of which one goes before."""
    sla = Sla(qos_threshold=3.0, degradation_threshold=0.2)
    await with_slices(2, sla=sla, model="embb")
    first, second = world.slices
    before = make_slice(first, sla=sla, model="embb", interval_s=20.0, priority=1)
    await world.bus.put_spec(streams.SLICES, first, before)
    await world.bus.put_spec(streams.POOLS, "edge", make_pool(bandwidth=100.0, cpu=2400.0))
    await (await world.bus.js.object_store(streams.MODELS)).put("embb", await asyncio.to_thread(trained))
    await world.route("microopt")
    await asyncio.gather(
        world.start("router", **{**ROUTER, "check": "required", "check_within_s": 5.0}),
        world.start("optimizer", serve=["microopt"]),
    )
    allocations = {one.slice: one for one in await world.allocated(await world.forecast(20.0))}
    assert allocations[first].status in ("optimal", "feasible")
    assert allocations[first].expected_degradation <= 0.2
    assert allocations[second].status == "infeasible"
    assert allocations[second].reason.startswith(f"slice {second} (priority 0) is degraded to ")
    assert "higher priorities came first" in allocations[second].reason
    assert sum(one.values[CPU] for one in allocations.values()) <= 2400.0 * (1.0 + 1e-6)
    message = await eventually(lambda: world.answer("microopt"))
    assert message.solution.capacity_prices[CPU] > 0.0
