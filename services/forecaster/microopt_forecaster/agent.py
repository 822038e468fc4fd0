"""The forecaster: telemetry in, and before each interval of each slice the traffic expected in it out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import nats.errors
from nats.js.errors import APIError

from microopt import streams
from microopt.agent import Agent, Context
from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Forecast, Interval, Telemetry
from microopt.settings import Settings
from microopt.specs import SliceSpec
from microopt_forecaster import last_words, models
from microopt_forecaster.followed import FollowedSlice
from microopt_forecaster.metrics import ForecasterMetrics
from microopt_forecaster.models.base import Model
from microopt_forecaster.settings import ForecasterSettings

MakeModel = Callable[[SliceSpec, ForecasterSettings], Model]

SHORTEST_TICK_S: Final = 0.02
LONGEST_TICK_S: Final = 0.5  # new slices, and clocks that were set, are noticed within this


class Forecaster:
    """The state of one forecaster; the telemetry stream holds it, so that a restart reads it again."""

    def __init__(self, settings: ForecasterSettings, make: MakeModel) -> None:
        self._settings = settings
        self._make = make
        self._slices: dict[str, FollowedSlice] = {}
        self._metrics = ForecasterMetrics()

    @asynccontextmanager
    async def lifespan(self, ctx: Context) -> AsyncIterator[None]:
        """Serve the forecaster's metrics with the agent's own."""
        self._metrics.register(ctx.metrics.registry)
        yield

    async def on_spec(self, key: str, spec: SliceSpec | None, _: Context) -> None:
        """Begin to follow a slice, follow it differently, or stop."""
        if spec is None:
            self._slices.pop(key, None)
        elif key not in self._slices:
            self._slices[key] = FollowedSlice(
                spec, self._make(spec, self._settings), self._settings.horizon_seasons
            )
        elif spec != self._slices[key].spec:
            self._slices[key].change(spec, self._make(spec, self._settings), self._settings.horizon_seasons)

    async def on_telemetry(self, telemetry: Telemetry, _: Context) -> None:
        """Note one slot; slices without a spec are none of ours.

        Raises:
            PermanentError: the slot is in the future; noted, it would push the past out of the history.
        """
        followed = self._slices.get(telemetry.slice)
        if followed is None:
            return
        ahead_s = telemetry.time.timestamp() - time.time()
        if ahead_s > followed.spec.interval_s:
            raise PermanentError(f"time {telemetry.time.isoformat()} is {ahead_s:.0f} s in the future")
        followed.note(telemetry)

    async def forecast_for_ever(self, ctx: Context) -> None:
        """Forecast what is due, each slice by itself, and wait until something is again."""
        while True:
            slices = list(self._slices.values())
            await asyncio.gather(*(self._serve(followed, ctx) for followed in slices))
            now_s = time.time()
            wait_s = min((f.schedule.wait_s(now_s) for f in slices if f.is_read), default=LONGEST_TICK_S)
            await asyncio.sleep(min(max(wait_s, SHORTEST_TICK_S), LONGEST_TICK_S))

    async def _serve(self, followed: FollowedSlice, ctx: Context) -> None:
        try:
            if not followed.prepared:
                await _prepare(followed, ctx)
            if followed.is_read:
                await self._forecast_due(followed, ctx)
        except (TemporaryError, nats.errors.Error, APIError) as error:  # the same again in the next tick
            ctx.log.warning("forecast_postponed", slice=followed.slice, error=str(error) or repr(error))

    async def _forecast_due(self, followed: FollowedSlice, ctx: Context) -> None:
        schedule = followed.schedule
        for interval in schedule.due(time.time()):
            try:
                outcome = await self._forecast(
                    followed, Interval(schedule.start(interval), schedule.interval_s), ctx
                )
            except TemporaryError:
                raise
            except Exception:
                ctx.log.exception("forecast_failed", slice=followed.slice, model=followed.model.name)
                outcome = "failed"
            self._metrics.forecasts.labels(outcome).inc()
            schedule.done(interval)

    async def _forecast(self, followed: FollowedSlice, interval: Interval, ctx: Context) -> str:
        """Publish the forecast of one interval and return what became of it."""
        model, history = followed.model, followed.history.copy()
        start_s = interval.start.timestamp()
        self._metrics.history_slots.labels(followed.slice).set(len(history))
        with self._metrics.duration_s.time():
            traffic = await asyncio.to_thread(model.forecast, history, start_s, interval.duration_s)
        if traffic is None:
            ctx.log.info(
                "forecast_unknown", slice=followed.slice, start=interval.start.isoformat(), known=len(history)
            )
            return "unknown"
        forecast = Forecast(
            slice=followed.slice, interval=interval, traffic=traffic, model=model.name, made_at=datetime.now(UTC)
        )
        return "new" if await ctx.bus.publish(forecast) else "duplicate"


async def _prepare(followed: FollowedSlice, ctx: Context) -> None:
    """Ask where the slice's telemetry ends and which forecast was its last.

    The server knows a forecast's id for two minutes only; its last forecast says it for longer.
    """
    followed.prepare(
        await last_words.telemetry_end(ctx.bus, followed.slice),
        await last_words.last_forecast(ctx.bus, followed.slice),
    )


def build(settings: Settings, make: MakeModel = models.make) -> Agent:
    """Return the forecaster that `[forecaster]` describes, with models made by `make`.

    Raises:
        ConfigError: a setting cannot be used.
    """
    forecaster = Forecaster(settings.table("forecaster", ForecasterSettings), make)
    agent = Agent("forecaster", description="telemetry to expected traffic", lifespan=forecaster.lifespan)
    agent.watch(streams.SLICES, SliceSpec)(forecaster.on_spec)
    agent.on(Telemetry, start="all")(forecaster.on_telemetry)
    agent.task("forecasts")(forecaster.forecast_for_ever)
    return agent
