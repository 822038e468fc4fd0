"""The actuator as a process of its own or in the test's, what it is told over the bus and what it says."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nats.js.errors import NotFoundError

from microopt import codec, streams
from microopt.bus import Bus
from microopt.messages import Actuation, Allocation, Interval
from microopt.settings import Settings
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt.testing import RunningAgent, eventually, running
from microopt_actuator import agent
from real.agent import AgentProcess

ONE, TWO = "1-000001", "1-000002"
CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"
UNITS = {CPU: "millicores", BANDWIDTH: "Mbit/s"}
BOUNDS = {CPU: Bounds(100.0, 4500.0), BANDWIDTH: Bounds(1.0, 90.0)}


class ActuatorProcess(AgentProcess):
    """`microopt-actuator` with the table [actuator]."""

    def __init__(self, folder: Path, url: str, table: dict, *, name: str = "actuator", inside=()) -> None:
        super().__init__("actuator", folder, url, table, name=name, inside=inside)


def actuating(url: str, **table) -> AbstractAsyncContextManager[RunningAgent]:
    """Run an actuator in this process; it looks often unless the table says otherwise."""
    settings = Settings({"actuator": {"check_every_s": 0.1, **table}}, "test")
    return running(agent.build(settings), url)


def bound(resource: str, driver: str, target: str, slice_: str = ONE) -> dict[str, str]:
    return {"slice": slice_, "resource": resource, "driver": driver, "target": target}


async def put_pool(bus: Bus, pool: str = "edge", **units: str) -> None:
    resources = {
        name: ResourceSpec(unit=unit, weight=1.0, capacity=1e6) for name, unit in {**UNITS, **units}.items()
    }
    await bus.put_spec(streams.POOLS, pool, PoolSpec(pool=pool, resources=resources))


async def put_slice(bus: Bus, slice_: str = ONE, **changes) -> None:
    fields = {
        "slice": slice_,
        "pool": "edge",
        "sla": Sla(qos_threshold=4.0, degradation_threshold=0.1),
        "bounds": BOUNDS,
        "model": "embb",
    }
    await bus.put_spec(streams.SLICES, slice_, SliceSpec(**{**fields, **changes}))


async def allocate(bus: Bus, epoch: int, values, *, slice_: str = ONE, pool: str = "edge", valid_s=3600.0):
    now = datetime.now(UTC)
    allocation = Allocation(
        slice=slice_,
        epoch=epoch,
        pool=pool,
        interval=Interval(now, 3600.0),
        values=values,
        valid_until=now + timedelta(seconds=valid_s),
        optimizer="microopt",
        status="optimal",
    )
    await bus.publish(allocation)
    return allocation


async def reports(bus: Bus, slice_: str | None = None, resource: str | None = None) -> list[Actuation]:
    """Return what actuators have published, oldest first."""
    state = (await bus.js.stream_info(streams.ACTUATIONS)).state
    messages = [await bus.js.get_msg(streams.ACTUATIONS, n) for n in range(1, state.last_seq + 1)]
    found = [codec.decode(m.data, Actuation, origin=m.subject) for m in messages]
    return [one for one in found if slice_ in (None, one.slice) and resource in (None, one.resource)]


async def reaches(
    bus: Bus, epoch: int, state: str, *, slice_: str = ONE, resource: str = CPU, times: int = 1, within_s=20.0
) -> Actuation:
    """Wait until a state was reported so often, and return the last such report."""

    async def probe():
        found = await reports(bus, slice_, resource)
        return [one for one in found if (one.epoch, one.state) == (epoch, state)][times - 1 :]

    what = f"{state} of {slice_} {resource}, epoch {epoch}"
    return (await eventually(probe, what=what, within_s=within_s))[0]


async def last_report(bus: Bus, slice_: str, resource: str) -> Actuation | None:
    try:
        message = await bus.js.get_last_msg(streams.ACTUATIONS, f"microopt.actuation.{slice_}.{resource}")
    except NotFoundError:
        return None
    return codec.decode(message.data, Actuation, origin=message.subject)
