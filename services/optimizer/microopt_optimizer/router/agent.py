"""The router's shell: follows desired state and forecasts, and runs a round for each interval of each pool."""

import asyncio
from datetime import UTC, datetime

from microopt import streams
from microopt.agent import Agent, Context
from microopt.cancel import cancel
from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Forecast
from microopt.settings import Settings
from microopt.specs import PoolSpec, Route, SliceSpec
from microopt_optimizer.router.decide import Decider
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.rounds import Round
from microopt_optimizer.router.settings import RouterSettings
from microopt_optimizer.router.state import RouterState

RoundKey = tuple[str, datetime, float]

AHEAD_INTERVALS = 2.0
"""How far ahead a forecast may begin: an allocation for later would rule out all before it."""


class Router:
    """Which rounds are open, and who decides them."""

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._state = RouterState()
        self._open: dict[RoundKey, Round] = {}
        self._changed = asyncio.Condition()
        self._new: asyncio.Queue[RoundKey] = asyncio.Queue()

    async def on_pool(self, name: str, spec: PoolSpec | None, _: Context) -> None:
        """Take a change of a pool."""
        self._state.set(self._state.pools, name, spec)

    async def on_slice(self, name: str, spec: SliceSpec | None, _: Context) -> None:
        """Take a change of a slice."""
        self._state.set(self._state.slices, name, spec)

    async def on_route(self, pool: str, route: Route | None, context: Context) -> None:
        """Take a change of a route; rounds that are still open follow it at their next attempt."""
        self._state.set(self._state.routes, pool, route)
        context.log.info("route", pool=pool, active=route.active if route else None)

    async def on_forecast(self, forecast: Forecast, context: Context) -> None:
        """Add a forecast to its round, and open the round if it is the first."""
        spec = self._state.slices.get(forecast.slice)
        if spec is None:
            known = ", ".join(sorted(self._state.slices)) or "none"
            raise TemporaryError(f"forecast for unknown slice {forecast.slice}; known: {known}")  # so far
        _require_near(forecast, spec)
        if forecast.interval.end <= datetime.now(UTC):
            context.log.debug("forecast_of_the_past", slice=forecast.slice)
            return
        key = (spec.pool, forecast.interval.start, forecast.interval.duration_s)
        async with self._changed:
            opened = key not in self._open
            self._open.setdefault(key, Round(spec.pool, forecast.interval)).add(forecast)
            self._changed.notify_all()
        if opened:
            self._new.put_nowait(key)

    async def run_rounds(self, context: Context) -> None:
        """Decide each round in a task of its own; a round that fails harms no other."""
        decider = Decider(self._settings, self._state, context, RouterMetrics(context.metrics.registry))
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                key = await self._new.get()
                task = asyncio.create_task(self._run(key, decider, context), name=f"round:{key[0]}")
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            await cancel(running)
            await decider.close()

    async def _run(self, key: RoundKey, decider: Decider, context: Context) -> None:
        current = self._open[key]
        try:
            await self._gather(current)
            await decider.decide(current)
        except Exception:
            context.log.exception("round_failed", pool=current.pool)
        finally:
            self._open.pop(key, None)

    async def _gather(self, current: Round) -> None:
        """Wait for the forecasts of the whole pool, but not longer than `gather_s`."""
        try:
            async with asyncio.timeout(self._settings.gather_s), self._changed:
                await self._changed.wait_for(lambda: current.is_complete(self._state.slices))
        except TimeoutError:
            return


def _require_near(forecast: Forecast, spec: SliceSpec) -> None:
    lead_s = spec.slot_s if spec.lead_s is None else spec.lead_s
    ahead_s = (forecast.interval.start - datetime.now(UTC)).total_seconds()
    allowed_s = lead_s + AHEAD_INTERVALS * spec.interval_s
    if ahead_s > allowed_s:
        raise PermanentError(
            f"forecast for slice {forecast.slice}: interval.start {forecast.interval.start.isoformat()} is "
            f"{ahead_s:.0f} s ahead, at most {allowed_s:.0f} s are allowed; is the clock of its forecaster right?"
        )


def build(settings: Settings) -> Agent:
    """Return the router."""
    router = Router(settings.table("router", RouterSettings))
    agent = Agent("router", description="asks the routed optimizer, checks, publishes allocations")
    agent.watch(streams.POOLS, PoolSpec)(router.on_pool)
    agent.watch(streams.SLICES, SliceSpec)(router.on_slice)
    agent.watch(streams.ROUTES, Route)(router.on_route)
    agent.on(Forecast, start="last")(router.on_forecast)
    agent.task("rounds")(router.run_rounds)
    return agent
