"""Desired state and forecasts that cannot be used: said, kept, and of no harm to the rest of the pool."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from microopt import codec, streams, subjects
from microopt.agent import Agent
from microopt.messages import Allocation, Problem, SliceSolution, Solution
from microopt.settings import Settings
from microopt.specs import Bounds, Route, SliceSpec
from microopt.testing import eventually, running
from microopt_optimizer.router.agent import build

VALUES = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}
SETTINGS = {"gather_s": 0.3, "retry_s": 0.05, "answer_within_s": 1.0, "check": "off"}


def optimizer(before=None) -> Agent:
    agent = Agent("optimizer-one")

    @agent.endpoint("one", subjects.optimize("one"), Problem)
    async def solve(problem, _):
        if before:
            await before()
        slices = [SliceSolution(slice=s.slice, allocation=VALUES, status="optimal") for s in problem.slices]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="one", slices=slices)

    return agent


def router() -> Agent:
    return build(Settings({"router": SETTINGS}, "test"))


@pytest.fixture
async def desired(bus, make_pool, make_slice):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    for name in ("1", "2"):
        await bus.put_spec(streams.SLICES, name, make_slice(name))
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one"))


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lines


async def allocations(bus) -> list[Allocation]:
    state = (await bus.js.stream_info(streams.ALLOCATIONS)).state
    messages = [await bus.js.get_msg(streams.ALLOCATIONS, n) for n in range(1, state.last_seq + 1)]
    return [codec.decode(m.data, Allocation, origin=m.subject) for m in messages]


async def allocated(bus, *names) -> bool:
    return [a.slice for a in await allocations(bus)] == list(names)


async def forecast_both(bus, make_forecast, **changes):
    start = datetime.now(UTC)
    for name in ("1", "2"):
        await bus.publish(make_forecast(name, **{"start": start, **changes}))


async def last_dead_letter(bus, agent="router") -> str:
    async def kept():
        state = (await bus.js.stream_info(streams.DEAD)).state
        return state.messages

    await eventually(kept)
    letter = await bus.js.get_last_msg(streams.DEAD, subjects.dead(agent))
    return f"{letter.headers['Microopt-Subject']} {letter.headers['Microopt-Error']}"


BY_ANOTHER_NAME = codec.encode(Route(pool="edge", active="one"))


@pytest.mark.parametrize(
    ("bucket", "key", "data", "said"),
    [
        (streams.SLICES, "2", b"junk", "slices/2: not a valid SliceSpec"),
        (streams.SLICES, "2", b'{"type":"microopt.slice.v1","slice":"1-FFFFFF"}', "$.slice"),
        (streams.POOLS, "edge", b'{"type":"microopt.pool.v1","pool":"edge","resources":{}}', "$.resources"),
        (streams.POOLS, "edge", b'{"type":"microopt.route.v1","pool":"edge","resources":{}}', "$.type"),
        (streams.ROUTES, "edge", b'{"type":"microopt.route.v1","pool":"edge","active":"*"}', "$.active"),
        (streams.ROUTES, "core", BY_ANOTHER_NAME, "is of 'edge', but stands under 'core'"),
    ],
)
async def test_desired_state_that_cannot_be_used_is_kept_with_the_field_and_the_former_rules_also_after_a_restart(
    bus, broker, desired, make_forecast, bucket, key, data, said
):
    async with running(optimizer(), broker.url):
        async with running(router(), broker.url):
            await forecast_both(bus, make_forecast)
            await eventually(lambda: allocated(bus, "1", "2"))
            kv = await bus.js.key_value(bucket)
            await kv.put(key, data)
            letter = await last_dead_letter(bus)
            await forecast_both(bus, make_forecast)
            await eventually(lambda: allocated(bus, *("1", "2") * 2))
        async with running(router(), broker.url):
            await forecast_both(bus, make_forecast)
            await eventually(lambda: allocated(bus, *("1", "2") * 3))
    assert letter.startswith(f"{bucket}/{key} InvalidMessageError: ")
    assert said in letter


async def test_what_was_deleted_before_it_was_spoilt_does_not_come_back(bus, broker, desired, make_forecast):
    kv = await bus.js.key_value(streams.SLICES)
    await kv.delete("2")
    await kv.put("2", b"junk")
    async with running(router(), broker.url), running(optimizer(), broker.url):
        await forecast_both(bus, make_forecast)
        await eventually(lambda: allocated(bus, "1"))
        letter = await eventually(lambda: _letter_with(bus, "unknown slice"))
    assert "unknown slice 2; known: 1" in letter


async def _letter_with(bus, text):
    letter = await last_dead_letter(bus)
    return letter if text in letter else None


async def test_a_slice_with_bounds_that_its_pool_has_not_starves_no_other_and_is_healed_by_putting_it_right(
    bus, broker, desired, make_slice, make_forecast, logged
):
    bounds = {"gnb_cpu": Bounds(500.0, 4500.0), "upf_cpu": Bounds(1.0, 2.0)}
    await bus.put_spec(streams.SLICES, "2", make_slice("2", bounds=bounds))
    async with running(router(), broker.url), running(optimizer(), broker.url):
        await forecast_both(bus, make_forecast, duration_s=30.0)
        await eventually(lambda: allocated(bus, "1"))
        reasons = await eventually(lambda: _unusable(logged))
        await bus.put_spec(streams.SLICES, "2", make_slice("2"))
        await eventually(lambda: allocated(bus, "1", "2"))
    assert reasons == {"slice 2 has bounds for upf_cpu, which pool edge has not"}


async def _unusable(logged) -> set[str]:
    return {line["reason"] for line in logged if line["event"] == "slice_unusable"}


async def test_a_pool_that_is_not_there_yet_holds_its_round_up_but_does_not_lose_it(
    bus, broker, make_pool, make_slice, make_forecast, logged
):
    await bus.put_spec(streams.SLICES, "1", make_slice("1"))
    async with running(router(), broker.url), running(optimizer(), broker.url):
        await bus.publish(make_forecast("1", duration_s=30.0))
        await eventually(lambda: any("pool edge has no specification" in str(line) for line in logged))
        await bus.put_spec(streams.POOLS, "edge", make_pool())
        await eventually(lambda: any("pool edge has no route" in str(line) for line in logged))
        await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one"))
        await eventually(lambda: allocated(bus, "1"))


@pytest.mark.parametrize(
    "start", [datetime.now(UTC) + timedelta(hours=1), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]
)
async def test_a_forecast_from_a_clock_that_is_wrong_does_not_rule_out_those_that_are_right(
    bus, broker, desired, make_forecast, start
):
    async with running(router(), broker.url), running(optimizer(), broker.url):
        await bus.publish(make_forecast("1", start=start))
        letter = await last_dead_letter(bus)
        await forecast_both(bus, make_forecast)
        await eventually(lambda: allocated(bus, "1", "2"))
    assert "forecast for slice 1: interval.start" in letter
    assert "s ahead, at most 4 s are allowed" in letter


async def test_a_forecast_of_the_past_is_passed_over(bus, broker, desired, make_forecast):
    async with running(router(), broker.url), running(optimizer(), broker.url):
        await bus.publish(make_forecast("1", start=datetime(1970, 1, 1, tzinfo=UTC)))
        await forecast_both(bus, make_forecast)
        await eventually(lambda: allocated(bus, "1", "2"))
    assert (await bus.js.stream_info(streams.DEAD)).state.messages == 0


async def test_a_broker_that_dies_in_the_middle_of_a_round_does_not_lose_it(bus, broker, desired, make_forecast):
    asked = asyncio.Event()

    async def cut():
        if not asked.is_set():
            asked.set()
            await broker.kill()

    async with running(router(), broker.url), running(optimizer(cut), broker.url):
        await forecast_both(bus, make_forecast, duration_s=60.0)
        await eventually(asked.is_set)
        await asyncio.sleep(0.2)
        await broker.start()
        await eventually(lambda: _after_reconnect(bus, "1", "2"), within_s=40)


async def _after_reconnect(bus, *names) -> bool:
    return bus.nc.is_connected and await allocated(bus, *names)


def test_a_slice_spec_has_the_one_name_of_its_slice(make_slice):
    good: SliceSpec = make_slice("1")
    assert codec.decode(codec.encode(good), SliceSpec, origin="test") == good
    with pytest.raises(codec.InvalidMessageError, match=r"\$\.slice"):
        codec.encode(make_slice("1-FFFFFF"))
