"""`microopt optimizers`: discovery of our workers, of foreign services, and of names that nobody serves."""

import asyncio
import json
from datetime import UTC, datetime

import nats.micro
import pytest
from click.testing import CliRunner

from microopt import codec, discovery, streams, subjects
from microopt.agent import Agent
from microopt.cli import main
from microopt.errors import InvalidMessageError, ModelError, TemporaryError
from microopt.messages import Answer, Interval, Problem, SliceProblem, Solution, Traffic
from microopt.specs import Canary, Route
from microopt.testing import eventually, running

TROUBLES = (
    None,
    TemporaryError("later"),
    ModelError("no model"),
    InvalidMessageError("odd"),
    RuntimeError("inside"),
)


def worker(name: str, *troubles: Exception | None) -> Agent:
    """Return a worker that answers, or fails, in this order."""
    agent, left = Agent("optimizer", version="1.2.3"), list(troubles)

    @agent.endpoint(name, subjects.optimize(name), Problem, metadata={"algorithm": f"{name}-algorithm"})
    async def solve(problem, _):
        if trouble := left.pop(0):
            raise trouble
        return Solution(pool=problem.pool, interval=problem.interval, optimizer=name, slices=[])

    return agent


@pytest.fixture
def problem(make_pool, make_slice):
    spec = make_slice()
    asked = SliceProblem(
        slice=spec.slice, sla=spec.sla, traffic=Traffic((3.0,), (1.0,)), bounds=spec.bounds, model="m"
    )
    interval = Interval(datetime.now(UTC), 2.0)
    return Problem(pool="edge", interval=interval, resources=make_pool().resources, slices=[asked])


@pytest.fixture
def optimizers(broker):
    """Run `microopt optimizers`."""
    environ = {"NATS_URL": broker.url, "MICROOPT_CONFIG": None, "MICROOPT_NATS_URL": None}

    async def run(*words):
        return await asyncio.to_thread(CliRunner().invoke, main, ["optimizers", *words], env=environ)

    return run


@pytest.fixture
async def foreign(bus):
    """Serve `headroom` as somebody would who has only nats-py, beside services that are none of ours."""

    async def answer(request):
        await request.respond(b"{}")

    config = nats.micro.service.ServiceConfig(name="their-headroom", version="7.0.0")
    service = await nats.micro.add_service(bus.nc, config)
    for name, subject in (("solve", subjects.optimize("headroom")), ("other", "their.own.subject")):
        await service.add_endpoint(name=name, subject=subject, handler=answer)
    await bus.nc.request(subjects.optimize("headroom"), b"{}", timeout=5)

    async def babble(message):
        await message.respond(b'{"name": ["\x1b[2J"]}')

    for verb in ("INFO", "STATS"):
        await bus.nc.subscribe(f"$SRV.{verb}", cb=babble)
    await bus.nc.flush()
    yield service
    await service.stop()


async def announced(bus, *names) -> bool:
    return not await discovery.absent(bus.nc, names, 0.2)


async def test_workers_foreign_services_and_routes_are_shown_together(bus, broker, foreign, problem, optimizers):
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="one", shadows=("headroom",)))
    core = Route(pool="core", active="headroom", fallbacks=("one",), canary=Canary(optimizer="two", share=0.5))
    await bus.put_spec(streams.ROUTES, "core", core)
    async with running(worker("one", *TROUBLES), broker.url), running(worker("two"), broker.url):
        await eventually(lambda: announced(bus, "one", "two", "headroom"))
        for trouble in TROUBLES:
            answer = await bus.nc.request(subjects.optimize("one"), codec.encode(problem), timeout=5)
            assert bool((answer.headers or {}).get("Nats-Service-Error")) == bool(trouble)
        done = await optimizers("--json")
        shown = await optimizers()
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["unserved"] == []
    assert report["malformed_replies"] == 2
    assert report["routed_by"]["one"] == {"edge": ["active"], "core": ["fallback"]}
    found = {one["optimizer"]: one for one in report["optimizers"]}
    assert set(found) == {"one", "two", "headroom"}
    one, two, theirs = found["one"], found["two"], found["headroom"]
    assert (one["service"], one["version"], one["algorithm"]) == ("microopt-optimizer", "1.2.3", "one-algorithm")
    assert (one["requests"], one["errors"]) == (5, 4)
    assert one["last_error"] == "500:internal error; see the worker's log"
    assert one["mean_ms"] > 0
    assert (two["requests"], two["errors"], two["mean_ms"], two["last_error"]) == (0, 0, None, "")
    assert (theirs["service"], theirs["version"], theirs["requests"], theirs["errors"]) == (
        "their-headroom", "7.0.0", 1, 0,
    )  # fmt: skip

    lines = shown.stdout.splitlines()
    assert "\x1b" not in shown.output
    assert [line.split()[0] for line in lines[:4]] == ["OPTIMIZER", "headroom", "one", "two"]
    at = lines[0].index("ROUTED BY")
    assert [line[at:] for line in lines[1:4]] == [
        "core (active), edge (shadow)",
        "core (fallback), edge (active)",
        "core (canary)",
    ]
    assert lines[4].startswith("last error of one (")
    assert lines[5] == "! replies that are not of a NATS service (ADR-32), left out: 2"
    assert len(lines) == 6


async def test_two_workers_of_one_optimizer_share_its_requests(bus, broker, problem, optimizers):
    async with running(worker("one", *[None] * 20), broker.url), running(worker("one", *[None] * 20), broker.url):
        await eventually(lambda: _count(bus, 2))
        for _ in range(20):
            await bus.request(subjects.optimize("one"), problem, Solution, timeout_s=5)
        report = json.loads((await optimizers("--json", "--wait-s", "1")).stdout)
    requests = [one["requests"] for one in report["optimizers"]]
    assert (len(requests), sum(requests)) == (2, 20)
    assert len({one["id"] for one in report["optimizers"]}) == 2


async def _count(bus, wanted) -> bool:
    return len((await discovery.discover(bus.nc, 0.2)).served) == wanted


async def test_a_routed_name_that_nobody_serves_is_told_loudly_with_its_last_answer(bus, problem, optimizers):
    for pool, active in (("edge", "gone"), ("core", "bare")):
        await bus.put_spec(streams.ROUTES, pool, Route(pool=pool, active=active, shadows=("silent",)))
    about = {"interval": problem.interval, "problem": "x", "role": "active", "at": datetime.now(UTC)}
    solution = Solution(pool="core", interval=problem.interval, optimizer="bare", slices=[])
    await bus.publish(Answer(pool="core", optimizer="bare", solution=solution, **about))
    await bus.publish(Answer(pool="edge", optimizer="gone", error="nobody serves it", **about))
    done = await optimizers()
    assert done.exit_code == 1
    bare, gone, silent = done.stdout.splitlines()[1:]
    assert bare.startswith("! bare, routed by core (active): no NATS service announces it; it last answered ")
    assert gone == "! gone, routed by edge (active): NOBODY SERVES IT, nor has anybody of late"
    assert silent.startswith("! silent, routed by core (shadow), edge (shadow): NOBODY SERVES IT")
    unserved = json.loads((await optimizers("--json")).stdout)["unserved"]
    assert [one["optimizer"] for one in unserved] == ["bare", "gone", "silent"]


async def test_who_is_looked_for_and_there_is_found_without_waiting(bus, broker):
    async with running(worker("one"), broker.url):
        await eventually(lambda: announced(bus, "one"))
        async with asyncio.timeout(30):
            assert await discovery.absent(bus.nc, ["one"], wait_s=60.0) == []
        assert await discovery.absent(bus.nc, ["one", "two"], wait_s=0.3) == ["two"]
