"""The router among several optimizers, with slice models that know better, modes, and a second router."""

import asyncio
import math
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from microopt import codec, streams, subjects
from microopt.agent import Agent
from microopt.messages import Answer, Asked, Check, Checked, Event, Problem, SliceCheck, SliceSolution, Solution
from microopt.settings import Settings
from microopt.specs import Canary, Margin, MarginLevel, Route
from microopt.testing import eventually, running
from microopt_optimizer.router.agent import build

BANDWIDTH, CPU = "transport_bandwidth", "gnb_cpu"
ENOUGH = 1500.0
PEAK = {BANDWIDTH: 40.0, CPU: 4000.0}
FAST = {"gather_s": 0.3, "retry_s": 0.05, "answer_within_s": 1.0, "lease_s": 1.0, "check_within_s": 1.0}


def router(**changes) -> Agent:
    return build(Settings({"router": {**FAST, **changes}}, "test"))


def optimizer(name: str, cpu=2000.0, bandwidth=20.0, status="optimal", delay_s=0.0) -> Agent:
    agent = Agent(f"optimizer-{name}")

    @agent.endpoint(name, subjects.optimize(name), Problem)
    async def solve(problem, _):
        await asyncio.sleep(delay_s)
        cpus = cpu if isinstance(cpu, dict) else {}
        slices = [
            SliceSolution(
                slice=s.slice, allocation={BANDWIDTH: bandwidth, CPU: cpus.get(s.slice, cpu)}, status=status
            )
            for s in problem.slices
        ]
        parts = {"pool": problem.pool, "interval": problem.interval, "slices": slices}
        return Solution(optimizer=name, capacity_prices={CPU: 0.5}, **parts)

    return agent


def checker(enough=ENOUGH) -> Agent:
    """Serve a slice model for which everything hangs on the CPU."""
    agent = Agent("checker")

    @agent.endpoint("check", subjects.CHECK, Check)
    async def check(question, _):
        found = [
            SliceCheck(slice=name, expected_degradation=0.01 if values[CPU] >= enough else 0.5)
            for name, values in question.allocations.items()
        ]
        return Checked(slices=found)

    return agent


@asynccontextmanager
async def all_running(broker, *agents):
    async with AsyncExitStack() as stack:
        for agent in agents:
            await stack.enter_async_context(running(agent, broker.url))
        yield


@asynccontextmanager
async def serving(broker, agent):
    """Run an optimizer, and wait until the server knows of it."""
    async with running(agent, broker.url):
        await asyncio.sleep(0.3)
        yield


@pytest.fixture
async def world(bus, broker, allocations, make_pool, make_slice, make_forecast):
    """Return what puts the route, and what forecasts an interval and waits for so many allocations."""
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    for name in ("1", "2"):
        await bus.put_spec(streams.SLICES, name, make_slice(name, peak_allocation=PEAK))

    class World:
        async def route(self, active="one", **fields):
            await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active=active, **fields))
            await asyncio.sleep(0.2)

        async def interval(self, count=2, duration_s=2.0, **fields):
            before = len(allocations)
            start = datetime.now(UTC)
            for name in ("1", "2"):
                await bus.publish(replace(make_forecast(name, start=start, duration_s=duration_s), **fields))
            await eventually(lambda: len(allocations) >= before + count)
            return {one.slice: one for one in allocations[before:]}

        async def told(self, kind):
            stream = streams.STREAM_OF[kind]
            last = (await bus.js.stream_info(stream)).state.last_seq
            messages = [await bus.js.get_msg(stream, n) for n in range(1, last + 1)]
            return [codec.decode(m.data, kind, origin=m.subject) for m in messages]

        async def event(self, kind):
            async def probe():
                return [event for event in await self.told(Event) if event.kind == kind]

            return (await eventually(probe, what=f"an event {kind}"))[0]

    one = World()
    await one.route()
    return one


async def test_an_optimizer_is_not_believed_on_its_own_feasibility(broker, world):
    """The cheap answer claims to hold the SLA; the slice model says that it does not."""
    agents = (router(), optimizer("one", cpu=600.0), optimizer("two"), checker())
    async with all_running(broker, *agents):
        await world.route(fallbacks=("two",))
        found = await world.interval()
        assert {one.optimizer for one in found.values()} == {"two"}
        event = await world.event("fallback")
        assert "claims optimal, but the slice model expects degradation 0.5000 > 0.1 there" in event.reason
        assert found["1"].expected_degradation == 0.01
        roles = {(answer.optimizer, answer.role) for answer in await world.told(Answer)}
        assert roles == {("one", "active"), ("two", "fallback")}


async def test_who_declares_an_sla_infeasible_that_could_be_held_costs_only_its_turn(broker, world):
    agents = (router(), optimizer("one", cpu=500.0, status="infeasible"), optimizer("two"), checker())
    async with all_running(broker, *agents):
        await world.route(fallbacks=("two",))
        found = await world.interval()
    assert {one.optimizer for one in found.values()} == {"two"}
    answers = [answer for answer in await world.told(Answer) if answer.optimizer == "one"]
    assert "declares the SLA infeasible" in answers[0].refused["1"]


async def test_without_any_answer_peak_alloc_stands_in_and_the_optimizer_is_taken_when_it_is_back(
    broker, allocations, world
):
    async with all_running(broker, router(), checker()):
        found = await world.interval(duration_s=30.0)
        assert {one.fallback for one in found.values()} == {"peak"}
        assert found["1"].values == PEAK
        before = found["1"].epoch
        event = await world.event("fallback")
        assert "nobody serves microopt.optimize.one" in event.reason
        async with serving(broker, optimizer("one")):
            await eventually(lambda: len(allocations) == 4)
    assert {one.fallback for one in allocations[2:]} == {""}
    assert {one.interval.start for one in allocations} == {found["1"].interval.start}
    assert min(one.epoch for one in allocations[2:]) > before


async def test_the_last_allocation_stands_in_where_it_still_holds_the_sla(broker, world):
    async with all_running(broker, router(), checker()):
        async with serving(broker, optimizer("one")):
            first = await world.interval()
        found = await world.interval(duration_s=30.0)
    assert {one.fallback for one in found.values()} == {"last"}
    assert found["1"].values == first["1"].values
    assert "peak" not in found["1"].reason


async def test_without_slice_models_an_answer_counts_only_where_that_is_allowed(broker, world):
    async with all_running(broker, router(), optimizer("one")):
        found = await world.interval()
        assert {one.fallback for one in found.values()} == {"peak"}
    async with all_running(broker, router(check="if-possible"), optimizer("one")):
        found = await world.interval()
        assert {one.fallback for one in found.values()} == {""}


async def test_a_canary_answers_for_its_slices_alone_and_costs_them_nothing_when_it_fails(broker, world):
    agents = (router(), optimizer("one"), checker())
    async with all_running(broker, *agents):
        await world.route(canary=Canary(optimizer="two", slices=("2",)))
        async with serving(broker, optimizer("two", cpu=1800.0)):
            found = await world.interval()
            assert {name: one.optimizer for name, one in found.items()} == {"1": "one", "2": "two"}
            assert found["1"].epoch == found["2"].epoch
        found = await world.interval()
        assert {one.optimizer for one in found.values()} == {"one"}
        assert "nobody serves microopt.optimize.two" in (await world.event("reverted")).reason
        roles = {(answer.optimizer, answer.role) for answer in await world.told(Answer)}
        assert roles == {("one", "active"), ("two", "canary")}


async def test_an_exception_answers_for_its_slice(broker, world):
    async with all_running(broker, router(), optimizer("one"), optimizer("two", cpu=1800.0), checker()):
        await world.route(exceptions={"1": "two"})
        found = await world.interval()
    assert {name: one.optimizer for name, one in found.items()} == {"1": "two", "2": "one"}


async def test_what_is_frozen_is_renewed_and_what_may_not_shrink_grows(broker, world):
    async with all_running(broker, router(shrink_at_most=1.0), checker()):
        async with serving(broker, optimizer("one", cpu=2000.0)):
            await world.interval()
        async with serving(broker, optimizer("one", cpu=1600.0, bandwidth=30.0)):
            await world.route(modes={"1": "frozen", "2": "no-shrink"})
            found = await world.interval()
    assert found["1"].values == {BANDWIDTH: 20.0, CPU: 2000.0}
    assert found["1"].fallback == "force"
    assert found["2"].values == {BANDWIDTH: 30.0, CPU: 2000.0}
    assert found["2"].changes == (
        "does not shrink, the route's mode lets it grow only: gnb_cpu 2000 instead of 1600",
    )


async def test_what_is_only_recommended_is_told_and_never_allocated(broker, world):
    async with all_running(broker, router(), optimizer("one"), checker()):
        await world.route(modes={"1": "recommend"})
        found = await world.interval(count=1)
        await eventually(lambda: world.told(Answer))
        await asyncio.sleep(0.5)
        answers = await world.told(Answer)
    assert set(found) == {"2"}
    assert len(answers) == 1  # and it is not asked again
    assert {one.slice for one in answers[0].solution.slices} == {"1", "2"}


async def test_nothing_shrinks_on_a_forecast_that_was_made_without_fresh_telemetry(broker, world):
    async with all_running(broker, router(shrink_at_most=1.0), checker()):
        async with serving(broker, optimizer("one", cpu=2000.0)):
            await world.interval()
        async with serving(broker, optimizer("one", cpu=1600.0)):
            old = datetime.now(UTC) - timedelta(hours=1)
            found = await world.interval(observed_until=old)
            assert found["1"].values[CPU] == 2000.0
            assert "without telemetry of the last" in found["1"].changes[0]
            assert (await world.event("held")).slice in ("1", "2")
            found = await world.interval()
    assert found["1"].values[CPU] == 1600.0


async def test_a_margin_is_what_optimizers_are_asked_for(bus, broker, world):
    await bus.put_spec(streams.MARGINS, "1", Margin(slice="1", degradation_threshold=0.04))
    async with all_running(broker, router(), optimizer("one"), checker()):
        found = await world.interval()
    assert {name: one.asked_threshold for name, one in found.items()} == {"1": 0.04, "2": 0.1}


async def test_a_margin_is_that_of_as_many_users_as_are_expected(bus, broker, world):
    levels = tuple(MarginLevel(half_octave=level, qos_margin=level / 100.0) for level in range(10))
    margin = Margin(slice="1", degradation_threshold=0.04, qos_margin=0.5, levels=levels)
    await bus.put_spec(streams.MARGINS, "1", margin)
    async with all_running(broker, router(), optimizer("one"), checker()):
        await world.interval()
    (asked,) = await world.told(Asked)
    first, second = sorted(asked.problem.slices, key=lambda one: one.slice)
    learned = 2.0 * math.log2(first.traffic.mean) / 100.0
    assert first.sla.qos_threshold == pytest.approx(second.sla.qos_threshold / 1.1 * (1.0 + learned))


async def test_of_two_routers_one_decides_and_the_other_takes_over(broker, allocations, world):
    async with all_running(broker, optimizer("one"), checker()):
        async with running(router(), broker.url):
            async with running(router(), broker.url):
                first = await world.interval()
                await asyncio.sleep(0.5)
                assert len(allocations) == 2
            second = await world.interval()
        assert len(allocations) == 4
    assert second["1"].epoch > first["1"].epoch


async def test_in_a_full_pool_what_may_not_shrink_is_not_given_to_others(bus, broker, world, make_pool):
    """The second slice would have what the first one keeps: it keeps what it has, and that is said."""
    await bus.put_spec(streams.POOLS, "edge", make_pool(cpu=4200.0))
    async with all_running(broker, router(shrink_at_most=1.0), checker()):
        async with serving(broker, optimizer("one", cpu=2100.0)):
            await world.interval()
        await world.route(modes={"1": "no-shrink"})
        async with serving(broker, optimizer("one", cpu={"1": 1600.0, "2": 2600.0})):
            found = await world.interval()
            event = await world.event("fallback")
    assert [found[name].values[CPU] for name in ("1", "2")] == [2100.0, 2100.0]
    assert (event.slice, "exceeds the capacity of gnb_cpu" in event.reason) == ("2", True)
    assert found["2"].fallback == "last"


async def test_an_optimizer_that_hangs_does_not_keep_others_from_standing_in(broker, world):
    async with all_running(broker, router(answer_within_s=60.0), checker(), optimizer("one", delay_s=30.0)):
        found = await world.interval(duration_s=6.0)
    assert {one.fallback for one in found.values()} == {"peak"}


async def test_a_frozen_slice_is_renewed_although_the_first_attempt_could_not_be_stored(bus, broker, world):
    async with all_running(broker, router(), optimizer("one"), checker()):
        first = await world.interval()
        await world.route(mode="frozen")
        somebody_elses = replace(first["1"], epoch=first["1"].epoch + 1, values={BANDWIDTH: 30.0, CPU: 3000.0})
        await bus.publish(somebody_elses)
        found = await world.interval(count=3)
    assert found["1"].values == somebody_elses.values
    assert (found["1"].fallback, found["2"].fallback) == ("force", "force")
    assert found["1"].epoch > somebody_elses.epoch
