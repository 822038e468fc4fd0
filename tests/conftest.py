import logging
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from microopt.agent import Agent
from microopt.broker import free_port
from microopt.messages import Allocation, Forecast, Interval, Telemetry, Traffic
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt.testing import running

pytest_plugins = ["microopt.testing.fixtures"]

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def logs_as_before():
    """Undo what a command that runs in this process does to its logs."""
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def telemetry():
    """Build the telemetry of slot `n`, with any field changed."""

    def build(n: int = 0, **changes) -> Telemetry:
        fields = {
            "slice": "1-000001",
            "time": START + timedelta(seconds=n),
            "slot_s": 1.0,
            "users": 3.0,
            "qos": 4.5,
        }
        return Telemetry(**{**fields, **changes})

    return build


@pytest.fixture
def unused_port() -> int:
    """Return a loopback port that nobody listens on."""
    return free_port()


@pytest.fixture
def make_pool():
    """Build a pool of bandwidth and CPU."""

    def build(name: str = "edge", bandwidth: float = 100.0, cpu: float = 9000.0) -> PoolSpec:
        return PoolSpec(
            pool=name,
            resources={
                "transport_bandwidth": ResourceSpec(unit="Mbit/s", weight=1 / 50, capacity=bandwidth),
                "gnb_cpu": ResourceSpec(unit="millicores", weight=1 / 4500, capacity=cpu),
            },
        )

    return build


@pytest.fixture
def make_slice():
    """Build a slice of pool `edge`, with any field changed."""

    def build(name: str = "1-000001", **changes) -> SliceSpec:
        fields = {
            "slice": name,
            "pool": "edge",
            "sla": Sla(qos_threshold=4.0, degradation_threshold=0.1),
            "bounds": {"transport_bandwidth": Bounds(5.0, 50.0), "gnb_cpu": Bounds(500.0, 4500.0)},
            "model": "embb",
            "interval_s": 2.0,
            "slot_s": 0.1,
        }
        return SliceSpec(**{**fields, **changes})

    return build


@pytest.fixture
def make_forecast():
    """Build the forecast of an interval that begins now, or at `start`."""

    def build(
        name: str = "1-000001", *, start: datetime | None = None, duration_s: float = 2.0, users: float = 3.0
    ):
        start = start or datetime.now(UTC)
        return Forecast(
            slice=name,
            interval=Interval(start, duration_s),
            traffic=Traffic((users,), (1.0,)),
            model="test",
            made_at=start,
        )

    return build


@pytest.fixture
async def allocations(bus, broker):
    """Collect what the router publishes, as a subscriber would."""
    agent, seen = Agent("subscriber"), []

    @agent.on(Allocation, start="all")
    async def observe(allocation, _):
        seen.append(allocation)

    async with running(agent, broker.url):
        yield seen
