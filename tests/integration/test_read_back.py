"""What actuators say of what they hold, each for itself, and what the router makes of it."""

import asyncio
from datetime import UTC, datetime

import pytest

from microopt import subjects
from microopt.agent import Agent
from microopt.messages import Held, Holding, Holdings
from microopt.testing import eventually, running
from microopt_optimizer.router.readback import as_allocation, merged
from real.actuator import BANDWIDTH, CPU, ONE, TWO, actuating, allocate, bound, put_pool, put_slice, reaches

VALUES = {CPU: 1000.0, BANDWIDTH: 20.0}


async def ask(bus, **slices):
    question = Held(slices={name.replace("_", "-"): tuple(names) for name, names in slices.items()})
    answers = await bus.request_all(subjects.HELD, question, Holdings, within_s=5.0, quiet_s=0.5)
    return {one.slice: one for one in merged(answers).values()}


def record(resource, slice_=ONE):
    return bound(resource, "record", f"{slice_}.{resource}", slice_)


async def test_every_actuator_answers_for_its_own_resources_with_what_was_verified(bus, broker):
    await put_pool(bus)
    await put_slice(bus)
    async with (
        actuating(broker.url, bindings=[record(CPU)]),
        actuating(broker.url, bindings=[record(BANDWIDTH), record(BANDWIDTH, TWO)]),
    ):
        await allocate(bus, 7, VALUES)
        for resource in VALUES:
            await reaches(bus, 7, "verified", resource=resource)
        assert await ask(bus) == {ONE: Holding(slice=ONE, epoch=7, values=VALUES)}
        question = {"1_000001": VALUES, "1_000002": VALUES}
        assert await ask(bus, **question) == {ONE: Holding(slice=ONE, epoch=7, values=VALUES)}


@pytest.mark.root
async def test_what_was_never_allocated_here_is_read_from_the_kernel(bus, broker, cgroup_of):
    """As after the loss of the actuator and of the store."""
    cgroup = cgroup_of("held")
    cgroup.limit(1200.0)
    async with actuating(broker.url, bindings=[bound(CPU, "cgroup", cgroup.target), record(BANDWIDTH)]):
        found = await eventually(lambda: ask(bus, **{"1_000001": VALUES}))
    assert found == {ONE: Holding(slice=ONE, epoch=0, values={CPU: 1200.0})}


async def test_a_dry_run_holds_nothing(bus, broker):
    await put_pool(bus)
    await put_slice(bus)
    async with actuating(broker.url, bindings=[record(CPU)], dry_run=True):
        await allocate(bus, 7, VALUES)
        await eventually(lambda: _serves(bus))
        assert await ask(bus, **{"1_000001": VALUES}) == {}


async def _serves(bus):
    return await bus.request_all(subjects.HELD, Held(), Holdings, within_s=5.0, quiet_s=0.2)


async def test_nobody_is_waited_for_where_nobody_serves_and_junk_is_left_out(bus, broker):
    begun = asyncio.get_running_loop().time()
    assert await bus.request_all(subjects.HELD, Held(), Holdings, within_s=60.0, quiet_s=60.0) == []
    assert asyncio.get_running_loop().time() - begun < 30.0
    broken = Agent("broken")

    @broken.endpoint("held", subjects.HELD, Held, shared=False)
    async def answer(_, __):
        raise RuntimeError("no")

    async with running(broken, broker.url), actuating(broker.url):
        found = await eventually(lambda: _serves(bus))
    assert found == [Holdings(slices=[])]


def test_of_a_resource_that_two_tell_the_higher_epoch_counts():
    answers = [
        Holdings(slices=[Holding(slice="1", epoch=9, values={CPU: 900.0})]),
        Holdings(slices=[Holding(slice="1", epoch=7, values={CPU: 700.0, BANDWIDTH: 7.0})]),
    ]
    for order in (answers, answers[::-1]):
        assert merged(order) == {"1": Holding(slice="1", epoch=9, values={CPU: 900.0, BANDWIDTH: 7.0})}


def test_only_a_whole_set_of_values_is_taken_and_answers_no_interval(make_slice):
    now = datetime.now(UTC)
    half = Holding(slice="1", epoch=7, values={CPU: 900.0})
    assert as_allocation(make_slice("1"), half, now) is None
    whole = Holding(slice="1", epoch=0, values={CPU: 900.0, BANDWIDTH: 7.0, "other": 1.0})
    found = as_allocation(make_slice("1"), whole, now)
    assert found.values == {CPU: 900.0, BANDWIDTH: 7.0}
    assert (found.epoch, found.optimizer, found.fallback) == (1, "read-back", "force")
    assert found.interval.end < now
