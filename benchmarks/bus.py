"""Messages a second from publishing to a handler: the SDK's agent, and bare nats-py doing the same."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import nats
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NoMessageError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from microopt import codec, streams, subjects
from microopt.agent import Agent, Context
from microopt.broker import Broker
from microopt.bus import MSG_ID, Bus
from microopt.messages import Telemetry
from microopt.pull import BATCH
from microopt.settings import NatsSettings
from microopt.testing import running

PUBLISHERS: Final = 8
"""Slices that publish at the same time, each waiting for the acknowledgement of its message."""
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_serial = itertools.count()

Publish = Callable[[Telemetry], Awaitable[object]]


class Results(msgspec.Struct, frozen=True):
    """Medians over rounds; `ratio` is that of each round's SDK rate to its bare rate, with its extremes."""

    sdk_msgs_per_s: float
    raw_msgs_per_s: float
    ratio: float
    ratio_min: float
    ratio_max: float
    sdk_cpu_us_per_msg: float
    """Of the process that publishes and handles; the server's is not in it."""
    raw_cpu_us_per_msg: float
    messages: int
    rounds: int
    publishers: int
    payload_bytes: int


@dataclass(frozen=True)
class Rate:
    """How fast messages went through, and what each cost this process."""

    msgs_per_s: float
    cpu_us_per_msg: float


class Arrivals:
    """Counts what a handler was given."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.complete = asyncio.Event()
        self._left = 0

    def expect(self, messages: int) -> None:
        """Count from now on, until so many have come."""
        self._left = messages

    def note(self) -> None:
        """Take one message."""
        self.connected.set()
        self._left -= 1
        if self._left == 0:
            self.complete.set()


def measure(*, messages: int, rounds: int) -> Results:
    """Return the rates over `rounds` rounds, in which both ways take turns on the same broker.

    `messages` are those of each way in a round, a multiple of `PUBLISHERS`.
    """
    return asyncio.run(_measure(messages, rounds))


async def _measure(messages: int, rounds: int) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        await broker.start()
        try:
            async with await Bus.connect(NatsSettings(url=broker.url), "bench", within_s=10) as bus:
                await streams.provision(bus.js)
            pairs = [await _round(broker.url, messages, sdk_first=n % 2 == 0) for n in range(rounds)]
        finally:
            await broker.stop()
    ratios = [sdk.msgs_per_s / raw.msgs_per_s for sdk, raw in pairs]
    return Results(
        sdk_msgs_per_s=median(sdk.msgs_per_s for sdk, _ in pairs),
        raw_msgs_per_s=median(raw.msgs_per_s for _, raw in pairs),
        ratio=median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        sdk_cpu_us_per_msg=median(sdk.cpu_us_per_msg for sdk, _ in pairs),
        raw_cpu_us_per_msg=median(raw.cpu_us_per_msg for _, raw in pairs),
        messages=messages,
        rounds=rounds,
        publishers=PUBLISHERS,
        payload_bytes=len(codec.encode(_telemetry())),
    )


async def _round(url: str, messages: int, *, sdk_first: bool) -> tuple[Rate, Rate]:
    """Return both rates; who goes first changes from round to round, since the disk may get slower or faster."""
    if sdk_first:
        sdk = await _sdk(url, messages)
        return sdk, await _raw(url, messages)
    raw = await _raw(url, messages)
    return await _sdk(url, messages), raw


async def _sdk(url: str, messages: int) -> Rate:
    """Return the rate of an agent that publishes from a task and handles what it published."""
    agent, arrivals = Agent("bench"), Arrivals()
    rate: asyncio.Future[Rate] = asyncio.get_running_loop().create_future()

    @agent.on(Telemetry, start="new")
    async def handle(_: Telemetry, __: Context) -> None:
        arrivals.note()

    @agent.task("publish")
    async def publish(context: Context) -> None:
        rate.set_result(await _rate(context.bus.publish, arrivals, messages))
        await asyncio.Event().wait()  # a task runs as long as its agent

    async with running(agent, url) as process:
        either: set[asyncio.Future[Any]] = {rate, process.task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not rate.done():
            await process.task  # raises what it died of
        return await rate


async def _raw(url: str, messages: int) -> Rate:
    """Return the rate of nats-py alone: the payload is ready beforehand and nobody looks into it."""
    nc = await nats.connect(url)
    js, arrivals, payload = nc.jetstream(), Arrivals(), codec.encode(_telemetry())

    async def publish(telemetry: Telemetry) -> object:
        return await js.publish(subjects.of(telemetry), payload, headers={MSG_ID: telemetry.message_id})

    try:
        async with asyncio.TaskGroup() as group:
            consuming = group.create_task(_consume(js, arrivals))
            rate = await _rate(publish, arrivals, messages)
            consuming.cancel()
    finally:
        await nc.close()
    return rate


async def _consume(js: JetStreamContext, arrivals: Arrivals) -> None:
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.NEW)
    pull = await js.pull_subscribe(subjects.ALL[Telemetry], stream=streams.TELEMETRY, config=config)
    while True:
        for message in await _fetch(pull):
            arrivals.note()
            await message.ack()


async def _fetch(pull: JetStreamContext.PullSubscription) -> list[Msg]:
    try:
        return await pull.fetch(BATCH, timeout=1.0)
    except NoMessageError:
        return []


async def _rate(publish: Publish, arrivals: Arrivals, messages: int) -> Rate:
    """Return the rate from the first message published to the last one handled."""
    while not arrivals.connected.is_set():
        await publish(_telemetry())
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # for what is still on its way
    arrivals.expect(messages)
    parts = [[_telemetry() for _ in range(messages // PUBLISHERS)] for _ in range(PUBLISHERS)]
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_one_after_the_other(publish, part) for part in parts))
    await arrivals.complete.wait()
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return Rate(messages / took_s, 1e6 * cpu_s / messages)


async def _one_after_the_other(publish: Publish, part: list[Telemetry]) -> None:
    for telemetry in part:
        await publish(telemetry)


def _telemetry() -> Telemetry:
    """Return one slot of a slice; no two are the same fact, so none is taken for a duplicate."""
    number = next(_serial)
    return Telemetry(
        slice=f"1-{number % PUBLISHERS:06x}",
        time=_START + timedelta(seconds=number),
        slot_s=1.0,
        users=3.0,
        qos=4.5,
        allocation={"transport_bandwidth": 20.0, "gnb_cpu": 2000.0},
        source="bench",
    )
