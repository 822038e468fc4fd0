"""The collector: sources side by side, and one telemetry for each slot of each known slice."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import msgspec
from msgspec import Struct
from nats.aio.client import Client

from microopt import streams
from microopt.agent import Agent, Context
from microopt.messages import Actuation, Telemetry
from microopt.settings import Settings
from microopt.specs import Sla, SliceSpec
from microopt_collector import guard, sources
from microopt_collector.dead import DeadLetters
from microopt_collector.in_force import AllocationsInForce
from microopt_collector.metrics import CollectorMetrics
from microopt_collector.publishing import publish
from microopt_collector.settings import CollectorSettings
from microopt_collector.sink import SourceSink
from microopt_collector.slots import SlotBook, Verdict
from microopt_collector.sources.base import Measurement, Source
from microopt_collector.supervise import supervise

MakeSource = Callable[[sources.SourceSettings, Client], Source]

TICKS_PER_SLOT: Final = 4
SHORTEST_TICK_S: Final = 0.02
LONGEST_TICK_S: Final = 1.0


class _Slice(Struct):
    """A slice that is collected."""

    sla: Sla
    book: SlotBook


class Collector:
    """The state of one collector; what it loses when it dies is at most the slots that are open."""

    def __init__(self, settings: CollectorSettings, make: MakeSource) -> None:
        self._settings = settings
        self._make = make
        self._slices: dict[str, _Slice] = {}
        self._in_force = AllocationsInForce()
        self._metrics = CollectorMetrics()
        self._dead = DeadLetters()

    @asynccontextmanager
    async def lifespan(self, ctx: Context) -> AsyncIterator[None]:
        """Serve the collector's metrics with the agent's own."""
        self._metrics.register(ctx.metrics.registry)
        yield

    async def on_spec(self, key: str, spec: SliceSpec | None, _: Context) -> None:
        """Begin to collect a slice, or stop; a change of its slots begins a new book."""
        known = self._slices.get(key)
        if spec is None:
            self._slices.pop(key, None)
        elif known is None or known.book.slot_s != spec.slot_s:
            book = SlotBook(key, spec.slot_s, self._settings.lateness_slots)
            self._slices[key] = _Slice(spec.sla, book)
        else:
            known.sla = spec.sla

    async def on_actuation(self, actuation: Actuation, _: Context) -> None:
        """Note what is in force from now on."""
        self._in_force.note(actuation)

    async def run_sources(self, ctx: Context) -> None:
        """Run every source; none can stop another."""
        async with asyncio.TaskGroup() as group:
            for settings in self._settings.sources:
                source = self._make(settings, ctx.bus.nc)
                sink = SourceSink(source.name, self._accept_from(settings), self._metrics, self._dead)
                group.create_task(supervise(source, sink, self._metrics), name=f"source:{source.name}")

    async def write_dead_letters(self, ctx: Context) -> None:
        """Publish what was rejected, beside everything else."""
        await self._dead.write(ctx)

    async def publish_slots(self, ctx: Context) -> None:
        """Publish each slot as it closes, in order."""
        while True:
            now_s = time.time()
            closed = [slot for one in self._slices.values() for slot in one.book.close(now_s)]
            for slot in closed:
                self._metrics.slots.labels(slot.quality).inc()
            await publish([self._with_allocation(slot) for slot in closed], ctx)
            await asyncio.sleep(self._tick_s())

    def _accept_from(self, settings: sources.SourceSettings) -> Callable[[Measurement, float], Verdict]:
        def accept(measurement: Measurement, now_s: float) -> Verdict:
            known = self._slices.get(measurement.slice)
            if known is None:
                raise guard.unknown(measurement.slice, self._slices)
            guard.check(measurement, known.sla, max_users=settings.max_users, unit_setting=settings.unit_setting)
            return known.book.add(measurement, now_s)

        return accept

    def _with_allocation(self, slot: Telemetry) -> Telemetry:
        end = slot.time + timedelta(seconds=slot.slot_s)
        return msgspec.structs.replace(slot, allocation=self._in_force.before(slot.slice, end))

    def _tick_s(self) -> float:
        shortest = min((one.book.slot_s for one in self._slices.values()), default=LONGEST_TICK_S)
        return max(SHORTEST_TICK_S, min(shortest / TICKS_PER_SLOT, LONGEST_TICK_S))


def build(settings: Settings, make: MakeSource = sources.make) -> Agent:
    """Return the collector that `[collector]` describes, with sources made by `make`.

    Raises:
        ConfigError: a setting cannot be used.
    """
    collector = Collector(settings.table("collector", CollectorSettings), make)
    agent = Agent("collector", description="measurements to telemetry", lifespan=collector.lifespan)
    agent.watch(streams.SLICES, SliceSpec)(collector.on_spec)
    agent.on(Actuation, start="last")(collector.on_actuation)
    agent.task("sources")(collector.run_sources)
    agent.task("slots")(collector.publish_slots)
    agent.task("dead-letters")(collector.write_dead_letters)
    return agent
