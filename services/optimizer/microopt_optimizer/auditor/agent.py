"""The auditor's shell: hands problems to the shadows, and looks at the streams again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import nats.errors

from microopt import streams
from microopt.agent import Agent, Context
from microopt.errors import MicrooptError, TemporaryError
from microopt.messages import Asked
from microopt.settings import Settings
from microopt.specs import PoolSpec, Route, SliceSpec
from microopt_optimizer.auditor.assuring import Assuring
from microopt_optimizer.auditor.canaries import Canaries
from microopt_optimizer.auditor.margin import updated
from microopt_optimizer.auditor.margins import MarginRule, Margins, no_margins
from microopt_optimizer.auditor.metrics import AuditorMetrics
from microopt_optimizer.auditor.settings import AuditorSettings
from microopt_optimizer.auditor.shadows import Shadows

S = TypeVar("S")


class Auditor:
    """Desired state as last seen, and the parts that act on it."""

    def __init__(self, settings: AuditorSettings, margin_rule: MarginRule) -> None:
        self._settings = settings
        self._margin_rule = margin_rule
        self._pools: dict[str, PoolSpec] = {}
        self._slices: dict[str, SliceSpec] = {}
        self._routes: dict[str, Route] = {}
        self._metrics: AuditorMetrics | None = None
        self._shadows: Shadows | None = None

    @asynccontextmanager
    async def lifespan(self, context: Context) -> AsyncIterator[None]:
        """Have shadows asked while it lasts."""
        self._metrics = AuditorMetrics(context.metrics.registry)
        self._shadows = Shadows(self._settings, context, self._metrics)
        try:
            yield
        finally:
            await self._shadows.close()

    async def on_pool(self, name: str, spec: PoolSpec | None, _: Context) -> None:
        """Take a change of a pool."""
        _set(self._pools, name, spec)

    async def on_slice(self, name: str, spec: SliceSpec | None, _: Context) -> None:
        """Take a change of a slice."""
        _set(self._slices, name, spec)

    async def on_route(self, pool: str, route: Route | None, _: Context) -> None:
        """Take a change of a route."""
        _set(self._routes, pool, route)

    async def on_asked(self, asked: Asked, _: Context) -> None:
        """Give a problem to its shadows, which take their own time."""
        if self._shadows is None:
            raise TemporaryError("the auditor is not open")
        self._shadows.ask(asked)

    async def audit(self, context: Context) -> None:
        """Judge intervals, and canaries whatever becomes of that; what fails is tried again at the next look."""
        if self._metrics is None:
            raise TemporaryError("the auditor is not open")
        margins = Margins(context.bus, self._margin_rule)
        parts = (self._settings, self._slices, self._pools, self._metrics, margins)
        assuring = Assuring(context.bus, *parts)
        canaries = Canaries(context.bus, self._pools, self._metrics)
        is_open = False
        while True:
            try:
                if not is_open:
                    await assuring.open()
                    is_open = True
                await assuring.look()
            except (MicrooptError, nats.errors.Error, TimeoutError) as error:  # the bus is away for a while
                context.log.warning("look_failed", error=str(error) or repr(error))
            except Exception:
                context.log.exception("look_failed")
            await canaries.look(self._routes)
            await asyncio.sleep(self._settings.look_every_s)


def _set(table: dict[str, S], name: str, value: S | None) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value


def build(settings: Settings, margin_rule: MarginRule = updated) -> Agent:
    """Return the auditor; `margin_rule` says how margins follow what is realised."""
    table = settings.table("auditor", AuditorSettings)
    auditor = Auditor(table, margin_rule if table.margins else no_margins)
    agent = Agent("auditor", description="asks shadows, judges intervals and canaries", lifespan=auditor.lifespan)
    agent.watch(streams.POOLS, PoolSpec)(auditor.on_pool)
    agent.watch(streams.SLICES, SliceSpec)(auditor.on_slice)
    agent.watch(streams.ROUTES, Route)(auditor.on_route)
    agent.on(Asked, durable=True)(auditor.on_asked)
    agent.task("audit")(auditor.audit)
    return agent
