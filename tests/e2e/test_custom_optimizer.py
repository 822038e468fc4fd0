"""An optimizer that knows nothing but NATS and JSON, beside the real router."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from microopt import streams, subjects
from microopt.agent import Agent
from microopt.errors import TemporaryError
from microopt.messages import Interval, Problem, SliceProblem, SliceSolution, Solution, Traffic
from microopt.settings import Settings
from microopt.specs import Route
from microopt.testing import eventually, running
from microopt_optimizer.router.agent import build
from microopt_testbed.surface import QosSurface

OPTIMIZER = Path(__file__).parents[2] / "examples/custom_optimizer/optimizer.py"
USERS = {"1": (1.0, 4.0), "2": (0.0, 0.0), "3": (50.0, 50.0)}
INTERVAL_S = 30.0
UNCHECKED = {"check": "if-possible"}  # as the example's README says: its slices have no model
OTHER = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}


@pytest.fixture
def headroom(broker):
    """Run the example as its README says."""
    environment = {**os.environ, "NATS_URL": broker.url}
    process = subprocess.Popen([sys.executable, OPTIMIZER], env=environment)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
async def route(bus, make_pool, make_slice):
    """Return how to route the pool, whose slices are known by now."""

    async def change(active):
        await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active=active))

    await bus.put_spec(streams.POOLS, "edge", make_pool(bandwidth=150.0, cpu=13_500.0))
    for name in USERS:
        await bus.put_spec(streams.SLICES, name, make_slice(name, interval_s=INTERVAL_S))
    await change("headroom")
    return change


def router() -> Agent:
    return build(
        Settings({"router": {"gather_s": 0.5, "retry_s": 0.05, "answer_within_s": 2.0, **UNCHECKED}}, "test")
    )


def other_optimizer() -> Agent:
    agent = Agent("other")

    @agent.endpoint("other", subjects.optimize("other"), Problem)
    async def solve(problem, _):
        slices = [SliceSolution(slice=s.slice, allocation=OTHER, status="optimal") for s in problem.slices]
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="other", slices=slices)

    return agent


async def forecast_all(bus, make_forecast):
    start = datetime.now(UTC)
    for name, users in USERS.items():
        forecast = make_forecast(name, start=start, duration_s=INTERVAL_S)
        await bus.publish(replace(forecast, traffic=Traffic(users, (0.9, 0.1))))


async def test_a_pool_routed_to_it_gets_its_allocations_within_bounds(
    bus, broker, route, headroom, allocations, make_forecast
):
    async with running(router(), broker.url):
        await forecast_all(bus, make_forecast)
        await eventually(lambda: len(allocations) == len(USERS))
    assert {a.optimizer for a in allocations} == {"headroom"}
    given = {a.slice: a for a in allocations}
    need_mbps = 1.75 * 4 * 4.4  # headroom × most users × the threshold with its default margin of 0.1
    assert given["1"].values == pytest.approx({"transport_bandwidth": need_mbps, "gnb_cpu": 90.0 * need_mbps})
    assert given["2"].values == {"transport_bandwidth": 5.0, "gnb_cpu": 500.0}
    assert given["3"].values == {"transport_bandwidth": 50.0, "gnb_cpu": 4500.0}
    assert {name: a.status for name, a in given.items()} == {"1": "feasible", "2": "feasible", "3": "infeasible"}
    assert given["1"].reason == "30.8 Mbit/s for the busiest slot"


async def test_a_pool_can_be_swapped_to_another_optimizer_and_back(
    bus, broker, route, headroom, allocations, make_forecast
):
    async def next_round_is_by(name) -> bool:
        before = len(allocations)
        await forecast_all(bus, make_forecast)
        await eventually(lambda: len(allocations) == before + len(USERS))
        return {a.optimizer for a in allocations[before:]} == {name}

    async with running(router(), broker.url), running(other_optimizer(), broker.url):
        for name in ("headroom", "other", "headroom"):
            await route(name)
            await eventually(partial(next_round_is_by, name))  # until the router has seen the new route
    epochs = [a.epoch for a in allocations]
    assert epochs == sorted(epochs)


async def test_sigterm_ends_it_with_status_0(bus, headroom, make_pool, make_slice):
    spec = make_slice("1")
    asked = SliceProblem(
        slice="1", sla=spec.sla, traffic=Traffic((3.0,), (1.0,)), bounds=spec.bounds, model=spec.model
    )
    interval = Interval(datetime.now(UTC), 2.0)
    problem = Problem(pool="edge", interval=interval, resources=make_pool().resources, slices=[asked])
    await eventually(lambda: _is_answered(bus, problem))
    headroom.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(headroom.wait, 20) == 0


async def _is_answered(bus, problem) -> bool:
    try:
        solution = await bus.request(subjects.optimize("headroom"), problem, Solution, timeout_s=2.0)
    except TemporaryError:  # it is still starting
        return False
    return solution.interval == problem.interval


@pytest.mark.parametrize("qos_threshold", [3.0, 4.0, 5.0])
@pytest.mark.parametrize("users", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_its_headroom_holds_the_sla_of_the_emulated_slice(make_slice, qos_threshold, users):
    spec = make_slice()
    tightened = replace(spec.sla, qos_threshold=qos_threshold).tightened(spec.qos_margin)
    asked = SliceProblem(
        slice=spec.slice, sla=tightened, traffic=Traffic((users,), (1.0,)), bounds=spec.bounds, model=spec.model
    )
    given = _example().allocate(msgspec.to_builtins(asked))["allocation"]
    missed = QosSurface.shipped().degradation(qos_threshold, users, given["gnb_cpu"], given["transport_bandwidth"])
    assert missed <= spec.sla.degradation_threshold


def _example():
    spec = importlib.util.spec_from_file_location("custom_optimizer", OPTIMIZER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
