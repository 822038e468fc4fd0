"""The forecaster: telemetry in, and before each interval of each slice the traffic expected in it out."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from microopt import streams
from microopt.agent import Agent, Context
from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt.messages import Forecast, Interval, Telemetry
from microopt.settings import Settings
from microopt.specs import SliceSpec
from microopt_forecaster import kept, models
from microopt_forecaster.computing import one_thread
from microopt_forecaster.day_types import DayTypes
from microopt_forecaster.followed import AUTO, Expected, FollowedSlice
from microopt_forecaster.loading import Loading
from microopt_forecaster.metrics import ForecasterMetrics
from microopt_forecaster.settings import ForecasterSettings
from microopt_forecaster.sharing import Sharing

SHORTEST_TICK_S: Final = 0.05
LOADS: Final = 8
"""Slices whose past is read at the same time."""
LONGEST_TICK_S: Final = 0.5  # new slices, and clocks that were set, are noticed within this


class Served:
    """A followed slice, and how far this replica is with it."""

    def __init__(self, followed: FollowedSlice) -> None:
        self.followed = followed
        self.loading = Loading(followed)
        self.owned = False
        self.saved_at = time.monotonic()
        self.changed = False


class Forecaster:
    """The state of one forecaster; KV and the telemetry stream hold what a restart needs."""

    _thread: ThreadPoolExecutor

    def __init__(self, settings: ForecasterSettings) -> None:
        self._settings = settings
        self._slices: dict[str, Served] = {}
        self._metrics = ForecasterMetrics()
        self._loads = asyncio.Semaphore(LOADS)
        self.sharing = Sharing()

    @asynccontextmanager
    async def lifespan(self, ctx: Context) -> AsyncIterator[None]:
        """Serve the forecaster's metrics with the agent's own; at the end keep what was learned."""
        self._metrics.register(ctx.metrics.registry)
        with one_thread() as self._thread:
            yield
        await asyncio.gather(*(self._save(served, ctx) for served in self._slices.values() if served.changed))

    async def on_spec(self, key: str, spec: SliceSpec | None, ctx: Context) -> None:
        """Begin to follow a slice, follow it differently, or stop."""
        if spec is None:
            self._slices.pop(key, None)
            return
        spec = _usable(spec, ctx)
        if key not in self._slices:
            self._slices[key] = Served(FollowedSlice(spec, self._settings))
        elif spec != self._slices[key].followed.spec:
            self._slices[key].followed.change(spec)

    async def on_telemetry(self, telemetry: Telemetry, ctx: Context) -> None:
        """Note one slot; slices without a spec are none of ours.

        Raises:
            PermanentError: the slot is in the future; noted, it would push the past out of the history.
        """
        served = self._slices.get(telemetry.slice)
        if served is None:
            return
        ahead_s = telemetry.time.timestamp() - time.time()
        if ahead_s > served.followed.spec.interval_s:
            raise PermanentError(f"time {telemetry.time.isoformat()} is {ahead_s:.0f} s in the future")
        served.loading.note(telemetry, ctx.sequence)

    async def forecast_for_ever(self, ctx: Context) -> None:
        """Forecast what is due, each slice by itself, and wait until something is again."""
        await ctx.opened[Telemetry].wait()
        while True:
            served = list(self._slices.values())
            await asyncio.gather(*(self._serve(one, ctx) for one in served))
            now_s = time.time()
            waits = (one.followed.schedule.wait_s(now_s) for one in served if one.owned)
            await asyncio.sleep(min(max(min(waits, default=LONGEST_TICK_S), SHORTEST_TICK_S), LONGEST_TICK_S))

    async def _serve(self, served: Served, ctx: Context) -> None:
        followed = served.followed
        try:
            if not served.loading.done:
                async with self._loads:
                    await served.loading.load(ctx.bus)
            if await self._own(served, ctx):
                await self._forecast_due(served, ctx)
                if served.changed and time.monotonic() - served.saved_at >= self._settings.checkpoint_s:
                    await self._save(served, ctx)
        except (TemporaryError, *kept.LOST) as error:  # the same again in the next tick
            ctx.log.warning("forecast_postponed", slice=followed.slice, error=str(error) or repr(error))

    async def _own(self, served: Served, ctx: Context) -> bool:
        """Return whether the slice is this replica's; one new to it goes on from where the other was."""
        followed, owned = served.followed, self.sharing.owns(served.followed.slice)
        if owned and not served.owned:
            await kept.learn(ctx.bus, followed)
            followed.resume_after(await kept.last_forecast(ctx.bus, followed.slice))
        served.owned = owned
        return owned

    async def _forecast_due(self, served: Served, ctx: Context) -> None:
        followed = served.followed
        for number in followed.schedule.due(time.time()):
            if not followed.is_fresh(number, time.time()):
                return  # what the forecast rests on is still on its way
            interval = Interval(followed.schedule.start(number), followed.schedule.interval_s)
            try:
                outcome = await self._forecast(followed, number, interval, ctx)
            except (TemporaryError, *kept.LOST):
                raise
            except Exception:
                ctx.log.exception("forecast_failed", slice=followed.slice)
                outcome = "failed"
            self._metrics.forecasts.labels(outcome).inc()
            followed.schedule.done(number)
            served.changed = True

    async def _forecast(self, followed: FollowedSlice, number: int, interval: Interval, ctx: Context) -> str:
        """Publish the forecast of one interval and return what became of it."""
        snapshot = followed.snapshot()
        with self._metrics.duration_s.time():
            loop = asyncio.get_running_loop()
            expected = await loop.run_in_executor(self._thread, followed.expect, number, snapshot)
        self._metrics.history_steps.labels(followed.slice).set(len(snapshot.steps.means.known))
        if expected is None:
            ctx.log.info(
                "forecast_unknown",
                slice=followed.slice,
                start=interval.start.isoformat(),
                known_steps=len(snapshot.steps.means.known),
            )
            return "unknown"
        forecast = _message(followed.slice, interval, expected, followed.observed_until_s)
        self._metrics.judge(forecast)
        return "new" if await ctx.bus.publish(forecast) else "duplicate"

    async def _save(self, served: Served, ctx: Context) -> None:
        try:
            await kept.save(ctx.bus, served.followed)
        except kept.LOST as error:  # what came since the last one is read again
            ctx.log.warning("state_not_kept", slice=served.followed.slice, error=str(error) or repr(error))
        served.saved_at, served.changed = time.monotonic(), False


def _message(slice: str, interval: Interval, expected: Expected, observed_until_s: float) -> Forecast:
    return Forecast(
        slice=slice,
        interval=interval,
        traffic=expected.traffic,
        model=expected.prediction.model,
        made_at=datetime.now(UTC),
        bands=expected.prediction.bands(),
        raised_from=expected.raised_from,
        observed_until=datetime.fromtimestamp(observed_until_s, UTC) if observed_until_s else None,
    )


def _usable(spec: SliceSpec, ctx: Context) -> SliceSpec:
    """Return `spec`, with the forecaster's own choice of model where it names one that cannot be had."""
    if spec.forecast_model == AUTO:
        return spec
    try:
        models.check([spec.forecast_model])
    except ConfigError as error:
        ctx.log.error("forecast_model_not_to_be_had", slice=spec.slice, error=str(error))
        return replace(spec, forecast_model=AUTO)
    return spec


def build(settings: Settings) -> Agent:
    """Return the forecaster that `[forecaster]` describes.

    Raises:
        ConfigError: a setting cannot be used.
    """
    own = settings.table("forecaster", ForecasterSettings)
    models.check(own.models)
    DayTypes(own.timezone, own.holidays)  # says at once what there is not
    forecaster = Forecaster(own)
    agent = Agent("forecaster", description="telemetry to expected traffic", lifespan=forecaster.lifespan)
    agent.watch(streams.SLICES, SliceSpec)(forecaster.on_spec)
    agent.on(Telemetry, start="new")(forecaster.on_telemetry)
    agent.task("members")(forecaster.sharing.beat)
    agent.task("forecasts")(forecaster.forecast_for_ever)
    return agent
