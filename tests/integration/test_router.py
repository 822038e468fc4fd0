"""The router between a real bus and optimizers that behave and misbehave."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from nats.js.errors import NotFoundError

from microopt import codec, streams, subjects
from microopt.agent import Agent
from microopt.messages import Answer, Asked, Problem, SliceSolution, Solution, Traffic
from microopt.settings import Settings
from microopt.specs import Bounds, Route
from microopt.testing import eventually, running
from microopt_optimizer.router.agent import build
from microopt_optimizer.router.thinning import most_atoms

GOOD = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}
FAST = {"gather_s": 0.3, "retry_s": 0.05, "answer_within_s": 1.0, "check": "off"}


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


async def forecast_both(bus, make_forecast, *, start=None, **kwargs):
    start = start or datetime.now(UTC)
    for name in ("1", "2"):
        await bus.publish(make_forecast(name, start=start, **kwargs))
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


async def test_the_next_interval_begins_where_the_last_one_ended(bus, broker, desired, allocations, make_forecast):
    asked = []
    agent = Agent("optimizer-one")

    @agent.endpoint("one", subjects.optimize("one"), Problem)
    async def solve(problem, _):
        asked.append(problem)
        slices = [SliceSolution(slice=s.slice, allocation=GOOD, status="optimal") for s in problem.slices]
        prices = {"gnb_cpu": 0.25, "transport_bandwidth": 0.0, "unheard_of": 1.0}
        parts = {"pool": problem.pool, "interval": problem.interval, "slices": slices}
        return Solution(optimizer="one", capacity_prices=prices, **parts)

    async with running(router(), broker.url), running(agent, broker.url):
        for count in (2, 4):
            await forecast_both(bus, make_forecast)
            await eventually(lambda count=count: len(allocations) == count)
    assert [problem.capacity_prices for problem in asked] == [{}, {"gnb_cpu": 0.25, "transport_bandwidth": 0.0}]
    assert [one.current for one in asked[1].slices] == [GOOD, GOOD]


@pytest.fixture
async def cpu_of(bus, broker, desired, allocations, make_slice, make_forecast):
    """Return what slice 1 is allocated, and why, as an optimizer gives one value after the other."""
    for name in ("1", "2"):
        bounds = {"transport_bandwidth": Bounds(5.0, 50.0), "gnb_cpu": Bounds(100.0, 4500.0)}
        await bus.put_spec(streams.SLICES, name, make_slice(name, bounds=bounds))

    async def run(*answers, **settings):
        asked, left = [], list(answers)
        agent = Agent("optimizer-one")

        @agent.endpoint("one", subjects.optimize("one"), Problem)
        async def solve(problem, _):
            asked.append({one.slice: one.current.get("gnb_cpu") for one in problem.slices})
            answer = left.pop(0)
            cpu = answer if isinstance(answer, dict) else dict.fromkeys("12", answer)
            slices = [
                SliceSolution(slice=name, allocation={**GOOD, "gnb_cpu": cpu[name]}, status="optimal")
                for name in (one.slice for one in problem.slices)
            ]
            return Solution(pool=problem.pool, interval=problem.interval, optimizer="one", slices=slices)

        deciding = build(Settings({"router": {**FAST, **settings}}, "test"))
        async with running(deciding, broker.url), running(agent, broker.url):
            for count in range(2, 2 * len(answers) + 2, 2):
                await forecast_both(bus, make_forecast)
                await eventually(lambda count=count: len(allocations) == count)
        found = [one for one in allocations if one.slice == "1"]
        return [one.values["gnb_cpu"] for one in found], [one.reason for one in found], asked

    return run


async def test_what_shrinks_does_so_in_steps_of_which_each_is_explained(bus, cpu_of):
    values, reasons, asked = await cpu_of(2000.0, 400.0, 400.0, 400.0)
    assert values == [2000.0, 1000.0, 500.0, 400.0]
    assert reasons == [
        "",
        "shrinks in steps: gnb_cpu 1000 instead of 400",
        "shrinks in steps: gnb_cpu 500 instead of 400",
        "",
    ]
    assert asked == [dict.fromkeys("12", has) for has in (None, 2000.0, 1000.0, 500.0)]
    answered = [answer.solution.slices[0].allocation["gnb_cpu"] for answer in await told(bus, Answer)]
    assert answered == [2000.0, 400.0, 400.0, 400.0]  # is kept as it was


async def test_what_would_shrink_by_little_stays(cpu_of):
    values, reasons, _ = await cpu_of(2000.0, 1990.0, 1970.0, 2010.0, 1950.0)
    assert values == [2000.0, 2000.0, 2000.0, 2010.0, 1950.0]
    assert reasons[1:3] == [f"shrinks in steps: gnb_cpu 2000 instead of {value}" for value in (1990, 1970)]
    assert reasons[3:] == ["", ""]


async def test_how_fast_slices_shrink_is_a_setting(cpu_of):
    values, reasons, _ = await cpu_of(2000.0, 1990.0, 400.0, deadband=0.0, shrink_at_most=1.0)
    assert (values, reasons) == ([2000.0, 1990.0, 400.0], ["", "", ""])


async def test_what_another_slice_needs_is_not_kept(bus, cpu_of, make_pool):
    await bus.put_spec(streams.POOLS, "edge", make_pool(cpu=2500.0))
    values, reasons, _ = await cpu_of({"1": 2000.0, "2": 400.0}, {"1": 400.0, "2": 2000.0})
    assert values == [2000.0, pytest.approx(500.0)]  # where 1000 would be a half
    assert reasons[1] == "shrinks in steps: gnb_cpu 500 instead of 400"


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
        answers = await eventually(lambda: told(bus, Answer))
    assert "gnb_cpu 9e+09 is outside 500 to 4500" in answers[0].refused["1"]


async def test_what_was_asked_is_told_for_shadows_who_are_never_waited_for(
    bus, broker, desired, allocations, make_forecast
):
    await route(bus, "one", "two", "absent")
    async with running(router(), broker.url), running(optimizer("one"), broker.url):
        await forecast_both(bus, make_forecast)
        await eventually(lambda: len(allocations) == 2)
        asked = (await eventually(lambda: told(bus, Asked)))[0]
        answer = (await eventually(lambda: told(bus, Answer)))[0]
    assert (asked.active, asked.shadows, asked.others) == ("one", ("two", "absent"), ())
    assert {asked.epoch} == {a.epoch for a in allocations}
    assert {asked.problem.id, answer.problem} == {a.problem for a in allocations}
    assert (answer.optimizer, answer.role, answer.refused) == ("one", "active", {})


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
        letter = await eventually(lambda: _last_letter(bus))
    assert "unknown slice 99; known: 1, 2" in letter.headers["Microopt-Error"]
    assert b'"slice":"99"' in letter.data


async def told(bus, kind):
    """Return everything of a type that was published, oldest first."""
    stream = streams.STREAM_OF[kind]
    info = await bus.js.stream_info(stream)
    messages = [await bus.js.get_msg(stream, n) for n in range(1, info.state.last_seq + 1)]
    return [codec.decode(m.data, kind, origin=m.subject) for m in messages]


async def _last_letter(bus):
    try:
        return await bus.js.get_last_msg(streams.DEAD, subjects.dead("router"))
    except NotFoundError:
        return None


async def test_a_forecast_that_overtakes_its_slice_is_used_once_the_slice_is_known(
    bus, broker, desired, allocations, make_forecast, make_slice
):
    async with running(router(), broker.url), running(optimizer("one"), broker.url):
        await bus.publish(make_forecast("3", duration_s=30.0))
        await asyncio.sleep(0.2)
        await bus.put_spec(streams.SLICES, "3", make_slice("3"))
        await eventually(lambda: [a.slice for a in allocations] == ["3"])


async def test_an_answer_that_comes_after_its_interval_is_dropped_and_the_next_interval_rules(
    bus, broker, desired, allocations, make_forecast
):
    slow, begun = Agent("slow"), []

    @slow.endpoint("one", subjects.optimize("one"), Problem)
    async def solve(problem, _):
        begun.append(problem.interval.start)
        if len(begun) == 1:
            await asyncio.sleep(1.5)
        slices = [SliceSolution(slice=s.slice, allocation=GOOD, status="optimal") for s in problem.slices]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="one", slices=slices)

    patient = build(Settings({"router": {**FAST, "answer_within_s": 10.0}}, "test"))
    async with running(patient, broker.url), running(slow, broker.url):
        first = await forecast_both(bus, make_forecast, duration_s=1.0)
        await eventually(lambda: begun)
        second = await forecast_both(bus, make_forecast, start=first + timedelta(seconds=1), duration_s=30.0)
        await eventually(lambda: len(allocations) == 2)
        await asyncio.sleep(1.0)
    assert [a.interval.start for a in allocations] == [second, second]


async def test_two_rounds_of_a_pool_never_give_away_the_same_capacity(
    bus, broker, desired, allocations, make_forecast, make_slice
):
    await bus.put_spec(streams.SLICES, "2", make_slice("2", interval_s=3.0))
    asked = []
    greedy = Agent("greedy")

    @greedy.endpoint("one", subjects.optimize("one"), Problem)
    async def solve(problem, _):
        asked.append(problem.resources["transport_bandwidth"].capacity)
        await asyncio.sleep(0.3)
        values = {**GOOD, "transport_bandwidth": 45.0}
        slices = [SliceSolution(slice=s.slice, allocation=values, status="optimal") for s in problem.slices]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="one", slices=slices)

    async with running(router(), broker.url), running(greedy, broker.url):
        await bus.publish(make_forecast("1", duration_s=2.0))
        await bus.publish(make_forecast("2", duration_s=3.0))
        await eventually(lambda: len(allocations) == 2)
    assert asked == [100.0, 55.0]


async def test_a_mute_shadow_delays_nothing(bus, broker, desired, allocations, make_forecast):
    mute = Agent("mute")

    @mute.endpoint("mute", subjects.optimize("mute"), Problem)
    async def solve(_, __):
        await asyncio.Event().wait()

    await route(bus, "one", "mute")
    patient = build(Settings({"router": {**FAST, "answer_within_s": 60.0}}, "test"))
    async with running(patient, broker.url), running(mute, broker.url):
        await forecast_both(bus, make_forecast, duration_s=60.0)
        await asyncio.sleep(0.5)
        async with running(optimizer("one"), broker.url):
            await eventually(lambda: len(allocations) == 2)


async def test_the_answer_that_was_accepted_is_kept_beside_the_one_that_was_refused(
    bus, broker, desired, allocations, make_slice, make_forecast
):
    tries = []

    def first_wrong(solution):
        tries.append(solution)
        wrong = [replace(s, allocation={**GOOD, "gnb_cpu": 9e9}) for s in solution.slices]
        return replace(solution, slices=wrong) if len(tries) == 1 else solution

    for name in ("1", "2"):  # of the forecasts' length, so that a round waits for both
        await bus.put_spec(streams.SLICES, name, make_slice(name, interval_s=30.0))
    gathering = build(Settings({"router": {**FAST, "gather_s": 10.0}}, "test"))
    async with running(gathering, broker.url), running(optimizer("one", change=first_wrong), broker.url):
        await forecast_both(bus, make_forecast, duration_s=30.0)
        await eventually(lambda: len(allocations) == 2)
        await eventually(lambda: _count_answers(bus, 2))
    refused = sorted(bool(a.refused) for a in await told(bus, Answer))
    assert refused == [False, True]


async def _count_answers(bus, count) -> bool:
    return len(await told(bus, Answer)) == count


async def test_a_lease_that_nobody_can_read_is_nobodys(bus, broker, desired, allocations, make_forecast):
    kv = await bus.js.key_value(streams.STATE)
    await kv.put("lease.edge", b"many")
    async with running(router(), broker.url), running(optimizer("one"), broker.url):
        await forecast_both(bus, make_forecast, duration_s=30.0)
        await eventually(lambda: len(allocations) == 2)


async def test_the_traffic_of_many_slices_is_thinned_to_what_fits_into_a_request(
    bus, broker, make_pool, make_slice, allocations, make_forecast
):
    names, seen = [f"{n}" for n in range(200)], []
    await bus.put_spec(streams.POOLS, "edge", make_pool(bandwidth=1e6, cpu=1e6))
    await route(bus, "one")
    for name in names:
        await bus.put_spec(streams.SLICES, name, make_slice(name, interval_s=60.0))
    users = tuple(n / 3 for n in range(256))
    traffic = Traffic(users, (1 / 256,) * 256)
    thrifty = Agent("thrifty")

    @thrifty.endpoint("one", subjects.optimize("one"), Problem)
    async def solve(problem, _):
        seen.append((len(problem.slices), [s.traffic.users for s in problem.slices]))
        slices = [SliceSolution(slice=s.slice, allocation=GOOD, status="optimal") for s in problem.slices]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="one", slices=slices)

    limit = bus.nc.max_payload
    start = datetime.now(UTC)
    gathering = build(Settings({"router": {**FAST, "gather_s": 20.0}}, "test"))
    async with running(gathering, broker.url), running(thrifty, broker.url):
        for name in names:
            await bus.publish(replace(make_forecast(name, start=start, duration_s=60.0), traffic=traffic))
        await eventually(lambda: len(allocations) == 200, within_s=60)
    assert max(count for count, _ in seen) > 100
    for count, all_users in seen:
        assert max(len(u) for u in all_users) <= min(256, most_atoms(count, limit))
        assert {u[-1] for u in all_users} == {users[-1]}
