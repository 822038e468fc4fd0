"""The native alternative to a canary: a server that maps a share of the requests to another worker."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from microopt import discovery, subjects
from microopt.agent import Agent
from microopt.broker import Broker
from microopt.bus import Bus
from microopt.messages import Interval, Problem, SliceProblem, Solution, Traffic
from microopt.settings import NatsSettings
from microopt.testing import eventually, running

DOCUMENT = Path(__file__).parents[2] / "docs" / "routing.md"
REQUESTS = 200


@pytest.fixture
async def mapped(tmp_path):
    """Start a server with the mappings that the documentation shows."""
    text = DOCUMENT.read_text(encoding="utf-8")
    snippet = text[text.index("mappings = {") :].split("```")[0]
    server = Broker(tmp_path / "mapped", config=snippet)
    await server.start()
    yield server
    await server.stop()


def worker(name: str) -> Agent:
    agent = Agent(f"worker-{name}")

    @agent.endpoint(name, subjects.optimize(name), Problem)
    async def solve(problem, _):
        return Solution(pool=problem.pool, interval=problem.interval, optimizer=name, slices=[])

    return agent


async def test_both_workers_get_their_share_and_a_solution_tells_who_answered(mapped, make_pool, make_slice):
    spec = make_slice()
    asked = SliceProblem(
        slice=spec.slice, sla=spec.sla, traffic=Traffic((3.0,), (1.0,)), bounds=spec.bounds, model="m"
    )
    interval = Interval(datetime.now(UTC), 2.0)
    problem = Problem(pool="edge", interval=interval, resources=make_pool().resources, slices=[asked])
    async with (
        await Bus.connect(NatsSettings(url=mapped.url), "test", within_s=10) as bus,
        running(worker("microopt"), mapped.url),
        running(worker("next"), mapped.url),
    ):
        await eventually(lambda: _announced(bus))
        told = Counter[str]()
        for _ in range(REQUESTS):
            answer = await bus.request(subjects.optimize("microopt"), problem, Solution, timeout_s=10)
            told[answer.optimizer] += 1
        served = {one.optimizer: one.requests for one in (await discovery.discover(bus.nc)).served}
    assert set(told) == {"microopt", "next"}
    assert told == served
    # 10 % of 200 is 20 ± 4.2: nine of these on either side.
    assert 2 <= told["next"] <= 58


async def _announced(bus) -> bool:
    return not await discovery.absent(bus.nc, ["microopt", "next"], 0.2)
