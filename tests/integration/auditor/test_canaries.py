"""The auditor on a real bus: canaries that are promoted, rolled back, or wait."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from microopt import desired, streams
from microopt.messages import (
    Answer,
    Asked,
    Assurance,
    Event,
    Interval,
)
from microopt.specs import Canary, Route
from microopt.testing import eventually, running
from real.auditor import INTERVAL_S, auditor, count_of, over, play, solution, stored

ROUTE = Route(
    pool="edge", active="one", fallbacks=("peak",), canary=Canary(optimizer="two", slices=("1",), intervals=3)
)


async def set_canary(bus, **changes) -> datetime:
    """Set a route with a canary since four intervals ago; return then."""
    since = datetime.now(UTC) - timedelta(seconds=4 * INTERVAL_S)
    await bus.put_spec(
        streams.ROUTES, "edge", replace(ROUTE, canary=replace(ROUTE.canary, since=since, **changes))
    )
    return since


async def try_out(
    bus, since: datetime, n: int, asked: Asked, cpu: float, error: str = "", active: str = "one"
) -> None:
    """Publish the answers of active and canary for interval `n`, and the assurance of the canary's slice."""
    interval = Interval(since + timedelta(seconds=n * INTERVAL_S), INTERVAL_S)
    problem = replace(asked.problem, interval=interval)
    for role, name, its_cpu in (("active", active, 2250.0), ("canary", "two", cpu)):
        given = None if error and role == "canary" else solution(problem, name, its_cpu)
        answer = Answer(
            pool="edge",
            interval=interval,
            problem=problem.id,
            optimizer=name,
            role=role,
            at=interval.start,
            solution=given,
            error="" if given else error,
            latency_s=0.1,
        )
        await bus.publish(answer)
    await bus.publish(
        Assurance(
            slice="1",
            pool="edge",
            interval=interval,
            epoch=n + 1,
            optimizer="one" if error else "two",
            status="FULFILLED",
            degradation_threshold=0.1,
            cost=1.0,
            at=interval.end,
            realised=0.05,
        )
    )


async def judged(bus) -> Route | None:
    route = await desired.get(bus, Route, "edge")
    return route if route.canary is None else None


@asynccontextmanager
async def auditors(url, count=2):
    async with running(auditor(), url), running(auditor(), url):
        yield


async def test_a_canary_that_is_as_good_and_cheaper_is_promoted_once(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with auditors(broker.url):
        for n in range(3):
            assert await judged(bus) is None
            await try_out(bus, since, n, make_asked(), cpu=2000.0)
        route = await eventually(lambda: judged(bus))
        [event] = await eventually(lambda: count_of(bus, Event, 1))
        await asyncio.sleep(0.3)
    assert (route.active, route.fallbacks, route.changed_by) == ("two", ("one", "peak"), "auditor")
    assert "cost 0.9383 of one's on 3 problems (limit 1.01): kept" in route.reason
    assert (event.kind, event.optimizer, event.reason) == ("canary", "two", route.reason)
    assert len(await stored(bus, Event)) == 1


async def test_a_dear_canary_is_rolled_back(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with running(auditor(), broker.url):
        for n in range(3):
            await try_out(bus, since, n, make_asked(), cpu=3000.0)
        route = await eventually(lambda: judged(bus))
    assert (route.active, route.fallbacks) == ("one", ("peak",))
    assert "rolled back after 3 intervals" in route.reason


async def test_a_canary_that_fails_is_rolled_back_early_by_an_auditor_that_was_restarted(
    bus, broker, slices, make_asked
):
    since = await set_canary(bus, intervals=24)
    async with running(auditor(), broker.url):
        for n in range(2):
            await try_out(bus, since, n, make_asked(), cpu=2000.0, error="no answer within 1 s")
        await asyncio.sleep(0.3)
        assert await judged(bus) is None
    async with running(auditor(), broker.url):
        await try_out(bus, since, 2, make_asked(), cpu=2000.0, error="no answer within 1 s")
        route = await eventually(lambda: judged(bus))
    assert "after 3 of 24 intervals, as it cannot keep failures" in route.reason
    assert "failures 3 of 3" in route.reason


async def test_a_canary_is_compared_with_the_active_optimizer_of_now(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with running(auditor(), broker.url):
        for n in range(2):
            await try_out(bus, since, n, make_asked(), cpu=2000.0)
        await asyncio.sleep(0.3)
        route = await desired.get(bus, Route, "edge")
        await bus.put_spec(streams.ROUTES, "edge", replace(route, active="three"))
        await asyncio.sleep(0.3)
        await try_out(bus, since, 2, make_asked(), cpu=2000.0, active="three")
        route = await eventually(lambda: judged(bus))
    assert "cost 0.9383 of three's on 1 problems" in route.reason


async def test_a_canary_is_judged_although_intervals_cannot_be(bus, broker, slices, make_asked):
    since = await set_canary(bus)
    async with running(auditor(), broker.url):
        await play(bus, over(), "2", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))  # it has begun, and provides no streams any more
        await bus.js.delete_stream(streams.TELEMETRY)
        for n in range(3):
            await try_out(bus, since, n, make_asked(), cpu=3000.0)
        await eventually(lambda: judged(bus))


async def test_a_canary_without_a_beginning_begins_when_it_is_seen(bus, broker, slices):
    await bus.put_spec(streams.ROUTES, "edge", ROUTE)
    before = datetime.now(UTC)
    async with running(auditor(), broker.url):
        await eventually(lambda: _since(bus))
    route = await desired.get(bus, Route, "edge")
    assert before <= route.canary.since <= datetime.now(UTC)
    assert replace(route, canary=replace(route.canary, since=None)) == ROUTE


async def _since(bus) -> datetime | None:
    return (await desired.get(bus, Route, "edge")).canary.since
