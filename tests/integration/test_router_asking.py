"""The router's questions on a real bus: each is encoded once, whoever is asked."""

import json
from datetime import UTC, datetime

import nats.errors
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from microopt import subjects
from microopt.agent import Agent
from microopt.messages import Interval, Problem, SliceProblem, Solution, Traffic
from microopt.specs import Bounds, ResourceSpec, Sla
from microopt.testing import eventually, running
from microopt_optimizer.router.asking import Asking
from microopt_optimizer.router.metrics import RouterMetrics


@pytest.fixture
def problem() -> Problem:
    one = SliceProblem(
        slice="1",
        sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
        traffic=Traffic((1.0,), (1.0,)),
        bounds={"gnb_cpu": Bounds(500.0, 4500.0)},
        model="test",
    )
    resources = {"gnb_cpu": ResourceSpec(unit="millicores", weight=1.0, capacity=4500.0)}
    return Problem(
        pool="edge", interval=Interval(datetime(2026, 1, 1, tzinfo=UTC), 60.0), resources=resources, slices=[one]
    )


@pytest.fixture
def heard() -> list[tuple[str, Problem]]:
    return []


@pytest.fixture
def two(heard) -> Agent:
    agent = Agent("two")

    def add(name: str) -> None:
        @agent.endpoint(name, subjects.optimize(name), Problem)
        async def solve(asked, _):
            heard.append((name, asked))
            return Solution(pool=asked.pool, interval=asked.interval, optimizer=name, slices=[])

    add("one")
    add("other")
    return agent


async def serving(bus) -> bool:
    """Return whether both optimizers are there."""
    try:
        info = json.loads((await bus.nc.request("$SRV.INFO.microopt-two", timeout=1.0)).data)
    except nats.errors.Error:
        return False
    return len(info["endpoints"]) == 2


async def test_all_who_are_asked_hear_the_same_problem(bus, broker, two, heard, problem):
    asking = Asking(bus, RouterMetrics(CollectorRegistry()))
    async with running(two, broker.url):
        await eventually(lambda: serving(bus))
        replies = await asking.all(["one", "other", "absent"], problem, within_s=5.0)
    assert sorted(heard) == [("one", problem), ("other", problem)]
    assert {name: bool(reply.solution) for name, reply in replies.items()} == {
        "one": True,
        "other": True,
        "absent": False,
    }
    assert "nobody serves" in replies["absent"].error


async def test_a_problem_that_nobody_could_read_is_a_reply_that_says_so(bus, broker, two, heard, problem):
    registry = CollectorRegistry()
    asking = Asking(bus, RouterMetrics(registry))
    async with running(two, broker.url):
        await eventually(lambda: serving(bus))
        replies = await asking.all(["one", "other"], replace(problem, deadline_s=-1.0), within_s=5.0)
    assert heard == []
    assert all(reply.solution is None and "deadline_s" in reply.error for reply in replies.values())
    for name in ("one", "other"):
        labels = {"optimizer": name, "outcome": "failed"}
        assert registry.get_sample_value("microopt_router_answers_total", labels) == 1.0
