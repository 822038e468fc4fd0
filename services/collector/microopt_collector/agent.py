"""The collector: sources side by side, and one telemetry for each slot of each known slice."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import msgspec
from nats.aio.client import Client

from microopt import streams
from microopt.agent import Agent, Context
from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Actuation, Telemetry
from microopt.settings import Settings
from microopt.specs import SliceSpec
from microopt_collector import sources
from microopt_collector.in_force import AllocationsInForce
from microopt_collector.metrics import CollectorMetrics
from microopt_collector.settings import CollectorSettings
from microopt_collector.slots import SlotBook
from microopt_collector.sources.base import Measurement, Source
from microopt_collector.supervise import supervise

MakeSource = Callable[[sources.SourceSettings, Client], Source]

TICKS_PER_SLOT: Final = 4
SHORTEST_TICK_S: Final = 0.02
LONGEST_TICK_S: Final = 1.0
NAMED: Final = 20  # known slices quoted in an error


class Collector:
    """The state of one collector; what it loses when it dies is at most the slots that are open."""

    def __init__(self, settings: CollectorSettings, make: MakeSource) -> None:
        self._settings = settings
        self._make = make
        self._books: dict[str, SlotBook] = {}
        self._in_force = AllocationsInForce()
        self._metrics = CollectorMetrics()

    @asynccontextmanager
    async def lifespan(self, ctx: Context) -> AsyncIterator[None]:
        """Serve the collector's metrics with the agent's own."""
        self._metrics.register(ctx.metrics.registry)
        yield

    async def on_spec(self, key: str, spec: SliceSpec | None, _: Context) -> None:
        """Begin to collect a slice, or stop; a change of its slots begins a new book."""
        if spec is None:
            self._books.pop(key, None)
        elif key not in self._books or self._books[key].slot_s != spec.slot_s:
            self._books[key] = SlotBook(key, spec.slot_s, self._settings.lateness_slots)

    async def on_actuation(self, actuation: Actuation, _: Context) -> None:
        """Note what is in force from now on."""
        self._in_force.note(actuation)

    async def run_sources(self, ctx: Context) -> None:
        """Run every source; none can stop another."""
        async with asyncio.TaskGroup() as group:
            for settings in self._settings.sources:
                source = self._make(settings, ctx.bus.nc)
                sink = _CountingSink(self, source.name, self._metrics, ctx)
                group.create_task(supervise(source, sink, self._metrics), name=f"source:{source.name}")

    async def publish_slots(self, ctx: Context) -> None:
        """Publish each slot as it closes, in order."""
        while True:
            now_s = time.time()
            for telemetry in [t for book in self._books.values() for t in book.close(now_s)]:
                await self._publish(telemetry, ctx)
            await asyncio.sleep(self._tick_s())

    def accept(self, measurement: Measurement) -> str:
        """Put a measurement into its slice's book and return what became of it.

        Raises:
            PermanentError: there is no such slice.
        """
        book = self._books.get(measurement.slice)
        if book is None:
            known = ", ".join(sorted(self._books)[:NAMED]) or "none"
            raise PermanentError(f"unknown slice {measurement.slice}; known: {known}")
        return book.add(measurement, time.time())

    def _tick_s(self) -> float:
        shortest = min((book.slot_s for book in self._books.values()), default=LONGEST_TICK_S)
        return max(SHORTEST_TICK_S, min(shortest / TICKS_PER_SLOT, LONGEST_TICK_S))

    async def _publish(self, telemetry: Telemetry, ctx: Context) -> None:
        end = telemetry.time + timedelta(seconds=telemetry.slot_s)
        allocation = self._in_force.before(telemetry.slice, end)
        telemetry = msgspec.structs.replace(telemetry, allocation=allocation)
        self._metrics.slots.labels(telemetry.quality).inc()
        while True:
            try:
                await ctx.bus.publish(telemetry)
            except TemporaryError as error:  # the bus has tried for long: a slot is worth waiting for
                ctx.log.warning("telemetry_not_stored", slice=telemetry.slice, error=str(error))
            except PermanentError:
                ctx.log.exception("telemetry_not_published", slice=telemetry.slice)
                return
            else:
                return


class _CountingSink:
    """One source's way into the collector."""

    def __init__(self, collector: Collector, source: str, metrics: CollectorMetrics, ctx: Context) -> None:
        self._collector = collector
        self._source = source
        self._metrics = metrics
        self._ctx = ctx

    async def emit(self, measurement: Measurement) -> None:
        verdict = self._collector.accept(measurement)
        self._metrics.results.labels(self._source, verdict).inc()
        if verdict == "ok":
            self._metrics.last_success.labels(self._source).set_to_current_time()

    async def reject(self, data: bytes, *, subject: str, error: Exception) -> None:
        self._metrics.results.labels(self._source, "dead").inc()
        await self._ctx.bus.dead_letter(data, subject=subject, error=error, kind="Measurement")


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
    return agent
