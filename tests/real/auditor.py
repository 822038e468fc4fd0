"""The auditor in the test's process, and what is read and said around it."""

from datetime import UTC, datetime, timedelta

from nats.js.errors import NotFoundError

from microopt import codec, streams, subjects
from microopt.agent import Agent
from microopt.messages import (
    Allocation,
    Interval,
    Problem,
    SliceSolution,
    Solution,
    Telemetry,
)
from microopt.settings import Settings
from microopt_optimizer.auditor.agent import build
from microopt_optimizer.auditor.margins import no_margins

GOOD = {"transport_bandwidth": 20.0, "gnb_cpu": 2250.0}
FAST = {"answer_within_s": 2.0, "look_every_s": 0.05, "late_s": 0.2, "stale_after_s": 0.0}
INTERVAL_S = 60.0
SLOT_S = 6.0


def auditor(rule=no_margins, **settings) -> Agent:
    return build(Settings({"auditor": {**FAST, **settings}}, "test"), rule)


async def stored(bus, kind) -> list:
    """Return everything that a stream holds, in order."""
    name, found, sequence = streams.STREAM_OF[kind], [], 0
    while True:
        try:
            message = await bus.js.get_msg(name, sequence + 1, subjects.ALL[kind], next=True)
        except NotFoundError:
            return found
        sequence = message.seq
        found.append(codec.decode(message.data, kind, origin=name))


async def count_of(bus, kind, count) -> list | None:
    found = await stored(bus, kind)
    return found if len(found) == count else None


def over(ago: int = 0) -> Interval:
    """Return an interval that is over since a second, or one that lies `ago` intervals before it."""
    return Interval(datetime.now(UTC) - timedelta(seconds=(ago + 1) * INTERVAL_S + 1), INTERVAL_S)


def solution(problem: Problem, name: str, cpu: float = 2250.0) -> Solution:
    values = {**GOOD, "gnb_cpu": cpu}
    slices = [SliceSolution(slice=s.slice, allocation=values, status="optimal") for s in problem.slices]
    return Solution(pool=problem.pool, interval=problem.interval, optimizer=name, slices=slices)


async def play(bus, interval: Interval, slice_: str, missed: int = 0, *, epoch: int, users: float = 2.0, slots=10):
    """Publish an interval's telemetry, of whose slots the first `missed` were bad, and its allocation.

    In this order, as the interval is over and thus due as soon as it is known.
    """
    for n in range(slots):
        time, qos = interval.start + timedelta(seconds=n * SLOT_S), 3.0 if n < missed else 5.0
        await bus.publish(Telemetry(slice=slice_, time=time, slot_s=SLOT_S, users=users, qos=qos))
    await bus.publish(allocated(slice_, interval, epoch))


def allocated(slice_: str, interval: Interval, epoch: int) -> Allocation:
    """Return the allocation of an interval."""
    return Allocation(
        slice=slice_,
        pool="edge",
        interval=interval,
        epoch=epoch,
        values=GOOD,
        valid_until=interval.start,
        optimizer="one",
        status="optimal",
        expected_degradation=0.05,
    )
