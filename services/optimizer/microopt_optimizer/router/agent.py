"""The router's shell: follows desired state and forecasts, and runs a round for each interval of each pool."""

import asyncio
import secrets
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from microopt import desired, streams
from microopt.agent import Agent, Context
from microopt.cancel import cancel
from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Forecast
from microopt.settings import Settings
from microopt.specs import Margin, PoolSpec, Route, SliceSpec
from microopt_optimizer.router.decide import Decider
from microopt_optimizer.router.leases import Leases
from microopt_optimizer.router.metrics import RouterMetrics
from microopt_optimizer.router.readback import ReadBack
from microopt_optimizer.router.restoring import Restoring
from microopt_optimizer.router.rounds import Round
from microopt_optimizer.router.settings import RouterSettings
from microopt_optimizer.router.state import RouterState

RoundKey = tuple[str, datetime, float]

TENDED_A_LEASE: Final = 4
"""How often in its duration a lease is renewed."""
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
        self._leases: Leases | None = None
        self._read_back: ReadBack | None = None
        self._counted: RouterMetrics | None = None

    async def on_pool(self, name: str, spec: PoolSpec | None, _: Context) -> None:
        """Take a change of a pool."""
        self._state.set(self._state.pools, name, spec)
        self._state.note(streams.POOLS, name, spec)

    async def on_slice(self, name: str, spec: SliceSpec | None, _: Context) -> None:
        """Take a change of a slice."""
        self._state.set(self._state.slices, name, spec)
        self._state.note(streams.SLICES, name, spec)

    async def on_route(self, pool: str, route: Route | None, context: Context) -> None:
        """Take a change of a route; rounds that are still open follow it at their next attempt."""
        self._state.set(self._state.routes, pool, route)
        self._state.note(streams.ROUTES, pool, route)
        context.log.info("route", pool=pool, active=route.active if route else None)

    async def on_margin(self, name: str, margin: Margin | None, _: Context) -> None:
        """Take a change of a slice's margin."""
        self._state.set(self._state.margins, name, margin)

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
        metrics, leases, read_back = self._metrics(context), self._led(context), self._reading(context)
        decider = Decider(self._settings, self._state, context, metrics, leases, read_back)
        telling = asyncio.create_task(decider.teller.run(), name="telling")
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                key = await self._new.get()
                task = asyncio.create_task(self._run(key, decider, context), name=f"round:{key[0]}")
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            await cancel(running)
            await decider.teller.drain()
            await cancel([telling])

    async def lead(self, context: Context) -> None:
        """Tend the leases of all pools until the agent ends, then give them back."""
        leases, metrics = self._led(context), self._metrics(context)
        try:
            while True:
                await leases.tend(self._state.pools)
                for pool in self._state.pools:
                    metrics.leads.labels(pool).set(leases.leads(pool))
                await asyncio.sleep(self._settings.lease_s / TENDED_A_LEASE)
        finally:
            await leases.release()

    async def restore(self, context: Context) -> None:
        """Keep desired state on the bus, also when that loses it."""
        await Restoring(context.bus, self._state, self._settings.desired).run()

    def _led(self, context: Context) -> Leases:
        if self._leases is None:
            holder = f"{context.bus.agent}-{secrets.token_hex(8)}"
            self._leases = Leases(context.bus, holder, self._settings.lease_s, partial(self._won, context))
        return self._leases

    def _reading(self, context: Context) -> ReadBack:
        if self._read_back is None:
            self._read_back = ReadBack(context.bus, self._state, self._settings.lease_s)
        return self._read_back

    def _metrics(self, context: Context) -> RouterMetrics:
        if self._counted is None:
            self._counted = RouterMetrics(context.metrics.registry)
        return self._counted

    async def _won(self, context: Context, pool: str) -> None:
        """Begin to lead a pool: what was known of it may be old."""
        former = self._state.forget(pool)
        await self._state.load_prices(context.bus, pool)
        await self._state.load_allocations(context.bus, pool)
        self._led(context).raise_epoch(pool, await self._reading(context).begin(pool, former))

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
    """Return the router.

    Raises:
        ConfigError: a setting of [router] cannot be used, or the file of `desired`.
    """
    own = settings.table("router", RouterSettings)
    if own.desired:
        desired.read_file(Path(own.desired))
    router = Router(own)
    agent = Agent("router", description="asks the routed optimizer, checks, publishes allocations")
    agent.watch(streams.POOLS, PoolSpec)(router.on_pool)
    agent.watch(streams.SLICES, SliceSpec)(router.on_slice)
    agent.watch(streams.ROUTES, Route)(router.on_route)
    agent.watch(streams.MARGINS, Margin)(router.on_margin)
    agent.on(Forecast, start="last")(router.on_forecast)
    agent.task("rounds")(router.run_rounds)
    agent.task("leases")(router.lead)
    agent.task("desired")(router.restore)
    return agent
