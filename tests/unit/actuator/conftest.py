"""A reconciler with a driver that can be away, stuck or slow, and a clock that the test turns."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Allocation, Interval
from microopt.specs import Bounds, Sla, SliceSpec
from microopt.testing import eventually
from microopt_actuator.bindings import Binding, Bindings
from microopt_actuator.drivers.base import Driver, Write
from microopt_actuator.drivers.record import RecordDriver
from microopt_actuator.metrics import ActuatorMetrics
from microopt_actuator.reconciler import Reconciler

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"


class Shelf:
    """A driver over a dict, which can be away, refuse, keep what it has, or never answer."""

    name = "shelf"
    unit = None

    def __init__(self, values=None):
        self.values = dict(values or {})
        self.writes = []
        self.most = float("inf")
        self.slow_s = 0.0
        self.things = {}
        self.unowned = False  # values are there, but not as this driver writes them
        self.away, self.refusing, self.stuck, self.hanging, self.broken = set(), set(), set(), set(), set()

    async def plan(self, target, value):
        if value > self.most:
            raise PermanentError(f"{target} holds {self.most:g} at most")
        now = self.values.get(target)
        held = now is not None and abs(now - value) <= 0.5
        steps = () if held and not self.unowned else (f"{target} = {value:g}",)
        return Write(target, value, holds=value, tolerance=0.5, steps=steps, thing=self.things.get(target, ""))

    async def apply(self, write):
        target, value = write.target, write.value
        await self._pass(target)
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        self.writes.append((target, value))
        self.unowned = False
        if target in self.refusing:
            raise PermanentError(f"{target} refuses {value:g}")
        if target not in self.stuck:
            self.values[target] = value

    async def read(self, target):
        await self._pass(target)
        return self.values.get(target)

    async def _pass(self, target):
        if target in self.away:
            raise TemporaryError(f"{target} is away")
        if target in self.broken:
            raise KeyError(target)
        if target in self.hanging:
            await asyncio.Event().wait()


class World:
    """A reconciler, and everything around it that a test looks at."""

    def __init__(self, bindings, shelf, check_every_s, clock=None):
        self.shelf = shelf
        self.now = NOW
        self.reports = []
        self.registry = CollectorRegistry()
        drivers: dict[str, Driver] = {"shelf": shelf, "record": RecordDriver()}
        self.reconciler = Reconciler(
            Bindings(bindings, drivers),
            drivers,
            report=self.reports.append,
            metrics=ActuatorMetrics(self.registry),
            check_every_s=check_every_s,
            clock=clock or (lambda: self.now),
        )

    def states(self, resource=CPU, slice_="1"):
        return [(r.epoch, r.state) for r in self.reports if (r.slice, r.resource) == (slice_, resource)]

    def metric(self, name, **labels):
        return self.registry.get_sample_value(f"microopt_actuator_{name}", labels) or 0.0

    async def reaches(self, *states, resource=CPU, slice_="1"):
        await eventually(lambda: self.states(resource, slice_) == list(states), what=str(states))

    def wait(self, seconds):
        """Turn the clock, and let the reconciler see it."""
        self.now += timedelta(seconds=seconds)
        self.reconciler.follow_due()

    async def settles(self, turns=50):
        """Let every task that can go on do so."""
        for _ in range(turns):
            await asyncio.sleep(0.001)


@asynccontextmanager
async def _world(shelf=None, *, bindings=None, check_every_s=0.02, specs=("1",), clock=None, **spec_changes):
    bindings = bindings or [Binding(slice="*", resource="*", driver="shelf", target="{slice}.{resource}")]
    it = World(bindings, Shelf() if shelf is None else shelf, check_every_s, clock)
    for name in specs:
        it.reconciler.set_spec(name, _spec(name, **spec_changes))
    running = asyncio.create_task(it.reconciler.run())
    try:
        yield it
    finally:
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()


def _spec(name="1", **changes):
    fields = {
        "pool": "edge",
        "sla": Sla(qos_threshold=4.0, degradation_threshold=0.1),
        "bounds": {CPU: Bounds(100.0, 4500.0), BANDWIDTH: Bounds(1.0, 50.0)},
        "model": "embb",
    }
    return SliceSpec(slice=name, **{**fields, **changes})


def _allocation(epoch=1, values=None, slice_="1", *, valid_s=3600.0, **changes):
    fields = {
        "pool": "edge",
        "interval": Interval(NOW, 3600.0),
        "values": {CPU: 2000.0} if values is None else values,
        "valid_until": NOW + timedelta(seconds=valid_s),
        "optimizer": "microopt",
        "status": "optimal",
    }
    return Allocation(slice=slice_, epoch=epoch, **{**fields, **changes})


def _upcoming(epoch, values=None, slice_="1", *, in_s=60.0, valid_s=3600.0, **changes):
    start = NOW + timedelta(seconds=in_s)
    return _allocation(epoch, values, slice_, interval=Interval(start, 3600.0), valid_s=in_s + valid_s, **changes)


@pytest.fixture
def make_shelf():
    """Build a driver over a dict."""
    return Shelf


@pytest.fixture
def world():
    """Run a reconciler whose drivers are a shelf and `record`."""
    return _world


@pytest.fixture
def spec():
    """Build a slice's spec."""
    return _spec


@pytest.fixture
def allocation():
    """Build an allocation whose interval has begun."""
    return _allocation


@pytest.fixture
def upcoming():
    """Build an allocation whose interval begins in a minute."""
    return _upcoming
