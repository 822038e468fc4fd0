"""The router between a real bus and optimizers that behave and misbehave."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from microopt import codec, streams, subjects
from microopt.agent import Agent
from microopt.messages import Allocation, Answer, Problem, SliceSolution, Solution
from microopt.settings import Settings
from microopt.specs import Route
from microopt.testing import eventually, running
from microopt_optimizer.router.agent import build
from microopt_optimizer.router.epochs import next_epoch

GOOD = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}
FAST = {"gather_s": 0.3, "retry_s": 0.05, "answer_within_s": 1.0}


def router() -> Agent:
    return build(Settings({"router": FAST}, "test"))


def optimizer(name: str, values=GOOD, change=lambda solution: solution) -> Agent:
    agent = Agent(f"optimizer-{name}")

    @agent.endpoint(name, subjects.optimize(name), Problem)
    async def solve(problem, _):
        slices = [SliceSolution(slice=s.slice, allocation=values, status="optimal") for s in problem.slices]
        return change(Solution(pool=problem.pool, interval=problem.interval, optimizer=name, slices=slices))

    return agent


@pytest.fixture
async def desired(bus, make_pool, make_slice):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    for name in ("1", "2"):
        await bus.put_spec(streams.SLICES, name, make_slice(name))
    await route(bus, "one")


async def route(bus, active, *shadows):
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active=active, shadows=shadows))


@pytest.fixture
async def allocations(bus, broker):
    """Collect what the router publishes, as a subscriber would."""
    agent, seen = Agent("subscriber"), []

    @agent.on(Allocation, start="all")
    async def observe(allocation, _):
        seen.append(allocation)

    async with running(agent, broker.url):
        yield seen


async def forecast_both(bus, make_forecast, **kwargs):
    start = datetime.now(UTC)
    for name in ("1", "2"):
        await bus.publish(make_forecast(name, **{"start": start, **kwargs}))
    return start


async def test_forecasts_of_a_pool_become_one_problem_and_an_allocation_each(
    bus, broker, desired, allocations, make_forecast
):
    sizes = []

    def note(solution):
        sizes.append(len(solution.slices))
        return solution

    async with running(router(), broker.url), running(optimizer("one", change=note), broker.url):
        start = await forecast_both(bus, make_forecast)
        await eventually(lambda: len(allocations) == 2)
    assert sizes == [2]
    assert {a.slice for a in allocations} == {"1", "2"}
    for allocation in allocations:
        assert allocation.values == GOOD
        assert allocation.optimizer == "one"
        assert allocation.interval.start == start
        assert allocation.valid_until == start + timedelta(seconds=2.2)


async def test_a_slice_whose_forecast_is_absent_does_not_hold_up_the_others(
    bus, broker, desired, allocations, make_forecast
):
    async with running(router(), broker.url), running(optimizer("one"), broker.url):
        await bus.publish(make_forecast("2"))
        await eventually(lambda: [a.slice for a in allocations] == ["2"])


async def test_a_swap_of_the_route_takes_effect_at_the_next_interval_without_a_restart(
    bus, broker, desired, allocations, make_forecast
):
    async with (
        running(router(), broker.url),
        running(optimizer("one"), broker.url),
        running(optimizer("two", {**GOOD, "gnb_cpu": 1000.0}), broker.url),
    ):
        await forecast_both(bus, make_forecast)
        await eventually(lambda: len(allocations) == 2)
        await route(bus, "two")
        await asyncio.sleep(0.2)
        await forecast_both(bus, make_forecast)
        await eventually(lambda: len(allocations) == 4)
    assert [a.optimizer for a in allocations] == ["one", "one", "two", "two"]
    assert allocations[3].epoch > allocations[0].epoch


async def test_an_optimizer_that_comes_back_is_used_in_the_same_interval(
    bus, broker, desired, allocations, make_forecast
):
    async with running(router(), broker.url):
        start = await forecast_both(bus, make_forecast, duration_s=30.0)
        await asyncio.sleep(0.5)
        assert allocations == []
        async with running(optimizer("one"), broker.url):
            await eventually(lambda: len(allocations) == 2)
    assert allocations[0].interval.start == start


async def test_a_malicious_optimizer_costs_nothing_but_its_turn(bus, broker, desired, allocations, make_forecast):
    def poison(solution):
        evil = replace(solution.slices[0], allocation={**GOOD, "gnb_cpu": 9e9})
        return replace(solution, slices=[evil, *solution.slices[1:]])

    async with running(router(), broker.url), running(optimizer("one", change=poison), broker.url):
        await forecast_both(bus, make_forecast)
        await eventually(lambda: [a.slice for a in allocations] == ["2"])
        answers = await eventually(lambda: _answers(bus))
    assert "gnb_cpu 9e+09 is outside 500 to 4500" in next(a.refused for a in answers if a.slice == "1")


async def test_shadows_are_asked_and_kept_but_never_applied(bus, broker, desired, allocations, make_forecast):
    await route(bus, "one", "two", "absent")
    async with (
        running(router(), broker.url),
        running(optimizer("one"), broker.url),
        running(optimizer("two", {**GOOD, "gnb_cpu": 1000.0}), broker.url),
    ):
        await forecast_both(bus, make_forecast)
        await eventually(lambda: len(allocations) == 2)
        await eventually(lambda: _has_roles(bus, {("one", "active"), ("two", "shadow")}))
    assert {a.optimizer for a in allocations} == {"one"}


async def test_a_restarted_router_allocates_no_interval_twice(bus, broker, desired, allocations, make_forecast):
    async with running(optimizer("one"), broker.url):
        async with running(router(), broker.url):
            await forecast_both(bus, make_forecast, duration_s=30.0)
            await eventually(lambda: len(allocations) == 2)
        async with running(router(), broker.url):
            await asyncio.sleep(1.0)
            assert len(allocations) == 2
            await forecast_both(bus, make_forecast)
            await eventually(lambda: len(allocations) == 4)
    assert min(a.epoch for a in allocations[2:]) > max(a.epoch for a in allocations[:2])


async def test_a_forecast_for_an_unknown_slice_is_kept_and_the_next_is_used(
    bus, broker, desired, allocations, make_forecast
):
    async with running(router(), broker.url), running(optimizer("one"), broker.url):
        await bus.publish(make_forecast("99"))
        await forecast_both(bus, make_forecast)
        await eventually(lambda: len(allocations) == 2)
    letter = await bus.js.get_last_msg(streams.DEAD, subjects.dead("router"))
    assert "unknown slice 99; known: 1, 2" in letter.headers["Microopt-Error"]
    assert b'"slice":"99"' in letter.data


async def test_epochs_grow_for_all_who_ask_and_also_after_the_store_was_lost(bus):
    at = lambda seconds: lambda: seconds  # noqa: E731
    epochs = [await next_epoch(bus, "edge", at(1000.0)) for _ in range(3)]
    assert epochs == [1000, 1001, 1002]
    racing = await asyncio.gather(*(next_epoch(bus, "edge", at(1000.0)) for _ in range(4)))
    assert sorted(racing) == [1003, 1004, 1005, 1006]
    await bus.js.delete_key_value(streams.STATE)
    await streams.provision(bus.js)
    assert await next_epoch(bus, "edge", at(2000.0)) == 2000


async def _answers(bus) -> list[Answer]:
    info = await bus.js.stream_info(streams.SOLUTIONS)
    messages = [await bus.js.get_msg(streams.SOLUTIONS, n) for n in range(1, info.state.last_seq + 1)]
    return [codec.decode(m.data, Answer, origin=m.subject) for m in messages]


async def _has_roles(bus, wanted) -> bool:
    return {(a.optimizer, a.role) for a in await _answers(bus)} == wanted
