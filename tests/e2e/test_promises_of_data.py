"""The promises about what comes in and what goes out, on real processes: 1, 5 and 8 of test_promises.py's list."""

import asyncio
import itertools
import json
import time

import pytest

from microopt import codec, streams, subjects
from microopt.agent import Agent
from microopt.messages import Problem, SliceSolution, Solution, Telemetry
from microopt.testing import eventually, running

BANDWIDTH, CPU = "transport_bandwidth", "gnb_cpu"
PEAK = {BANDWIDTH: 30.0, CPU: 3000.0}
ROUTER = {"gather_s": 0.2, "retry_s": 0.05, "answer_within_s": 5.0, "check": "off", "lease_s": 1.0}
SLOT_S = 0.5
RAN = {
    "kind": "nats",
    "name": "ran",
    "subject": "ran.kpi",
    "slice_field": "snssai",
    "time_field": "ts",
    "users_field": "ues",
    "qos_field": "mbps",
}
NO_MEASUREMENT = [b"<html>503</html>", b"[]", b'{"snssai": "1-000001"}', b"\xff\xfe"]
NO_NUMBERS = ["NaN", "-Infinity", -3, None, "many", 1e300]


async def stored(bus, kind, stream=None) -> list:
    """Return everything that was published of a kind, in order."""
    stream = stream or streams.STREAM_OF[kind]
    last = (await bus.js.stream_info(stream)).state.last_seq
    messages = [await bus.js.get_msg(stream, number) for number in range(1, last + 1)]
    return [codec.decode(one.data, kind, origin=one.subject) for one in messages]


async def test_unknown_is_not_a_number(world, with_slices):
    """Every third slot is measured; for the others there is nothing but what is no measurement."""
    await with_slices(1, slot_s=SLOT_S)
    collector = await world.start("collector", sources=[RAN])
    (slice_,) = world.slices
    began = 3 * (int(time.time() / SLOT_S / 3) + 2)  # with one that is measured: before that, nothing is collected
    wrong = itertools.cycle(NO_NUMBERS)
    for number in range(began, began + 12):
        await asyncio.sleep(max(0.0, number * SLOT_S - time.time()))
        users = 3 if number % 3 == 0 else next(wrong)
        said = {"snssai": slice_, "ts": number * SLOT_S, "ues": users, "mbps": 4.5}
        await world.bus.nc.publish("ran.kpi", json.dumps(said).encode())
        await world.bus.nc.publish("ran.kpi", NO_MEASUREMENT[number % len(NO_MEASUREMENT)])

    async def closed():
        found = await stored(world.bus, Telemetry)
        slots = {round(one.time.timestamp() / SLOT_S): one for one in found}
        return slots if set(range(began, began + 12)) <= set(slots) else None

    slots = await eventually(closed, within_s=30, every_s=0.2, what="all slots")
    for number in range(began, began + 12):
        slot = slots[number]
        if number % 3 == 0:
            assert (slot.users, slot.qos) == (3.0, 4.5)
        else:
            assert slot.users is None, slot  # the QoS beside a null is a measurement
            assert (slot.qos, slot.quality) in ((None, "missing"), (4.5, "partial")), slot
    assert await world.bus.js.get_last_msg(streams.DEAD, subjects.dead("collector"))
    assert collector.is_ready()


def optimizer(answers: dict[str, dict[str, float]]) -> Agent:
    """Serve an optimizer that answers what `answers` says by then."""
    agent = Agent("optimizer-one")

    @agent.endpoint("one", subjects.optimize("one"), Problem)
    async def solve(problem, _):
        slices = [
            SliceSolution(slice=one.slice, allocation=answers[one.slice], status="optimal")
            for one in problem.slices
        ]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="one", slices=slices)

    return agent


async def test_bounds_and_capacity_hold_whatever_is_answered_and_nothing_flaps(world, with_slices, make_pool):
    await world.bus.put_spec(streams.POOLS, "edge", make_pool(bandwidth=80.0, cpu=6500.0))
    await with_slices(2, peak_allocation=PEAK, interval_s=1.0)
    first, second = world.slices
    answers = {}
    await world.start("router", **ROUTER)

    async def allocated(cpu: float, other: float = 2000.0, bandwidth: float = 20.0):
        answers.update({first: {BANDWIDTH: bandwidth, CPU: cpu}, second: {BANDWIDTH: 20.0, CPU: other}})
        found = {one.slice: one.values for one in await world.allocated(await world.forecast(1.0))}
        assert sum(values[CPU] for values in found.values()) <= 6500.0 * (1.0 + 1e-6)
        for values in found.values():
            assert 500.0 <= values[CPU] <= 4500.0
            assert 5.0 <= values[BANDWIDTH] <= 50.0
        return found[first][CPU]

    async with running(optimizer(answers), world.broker.url):
        assert await allocated(4000.0) == 4000.0
        assert await allocated(3990.0) == 4000.0  # within the deadband
        assert await allocated(1000.0) == pytest.approx(2000.0)  # at most half at once
        assert await allocated(3500.0) == 3500.0  # growth at once
        for cpu in (9e9, -1.0, 1.0, 4501.0):
            await allocated(cpu)
        await allocated(3500.0, bandwidth=1e12)
        await allocated(4400.0, other=4400.0)  # more than there is


async def test_bad_input_is_named_and_kept_and_stops_nothing_else(world, with_slices):
    await with_slices(2, peak_allocation=PEAK, interval_s=1.0)
    first, second = world.slices
    values = {BANDWIDTH: 20.0, CPU: 2000.0}
    router = await world.start("router", **ROUTER)
    async with running(optimizer({first: values, second: values}), world.broker.url):
        await world.allocated(await world.forecast(1.0))
        for data in (b"{", b"\xff", b'{"type": "microopt.forecast.v1", "slice": 7}', b"x" * 100_000):
            await world.bus.js.publish(f"microopt.forecast.{first}", data)
        kv = await world.bus.js.key_value(streams.SLICES)
        await kv.put("1-00000f", b'{"type": "microopt.slice.v1", "pool": 7}')
        for _ in range(2):
            found = await world.allocated(await world.forecast(1.0))
            assert {one.slice: one.values for one in found} == {first: values, second: values}

    async def kept():
        state = (await world.bus.js.stream_info(streams.DEAD)).state
        said = [await world.bus.js.get_msg(streams.DEAD, n) for n in range(1, state.last_seq + 1)]
        text = " ".join(f"{one.headers}" for one in said if one.subject == subjects.dead("router"))
        return "$.slice" in text and "malformed" in text and text

    await eventually(kept, within_s=20, every_s=0.2, what="dead letters that name the field")
    counted = await asyncio.to_thread(router.metric, 'microopt_agent_dead_letters_total{message="Forecast"}')
    assert counted >= 4.0
