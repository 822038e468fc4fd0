"""Asking the bus for what there is, and opening the drivers that are bound."""

from contextlib import AsyncExitStack

import structlog

from microopt import desired
from microopt.agent import Context
from microopt.bus import Bus
from microopt.errors import MicrooptError
from microopt.messages import Values
from microopt.metrics import AgentMetrics
from microopt.settings import NatsSettings, Settings
from microopt.specs import PoolSpec, SliceSpec
from microopt_actuator.bindings import Bindings
from microopt_actuator.check.report import Report
from microopt_actuator.check.run import check
from microopt_actuator.drivers.base import Driver
from microopt_actuator.memory import Memory
from microopt_actuator.registry import DRIVERS, opened
from microopt_actuator.settings import ActuatorSettings

CONNECT_WITHIN_S = 5.0


async def look(settings: Settings) -> Report:
    """Return what is found behind the bindings of [actuator], for the slices that there are.

    Raises:
        ConfigError: a setting cannot be used, or nothing answers at [nats] url.
    """
    own = settings.table("actuator", ActuatorSettings)
    bindings = Bindings(own.bindings, DRIVERS)
    metrics = AgentMetrics()
    nats_settings = settings.table("nats", NatsSettings)
    async with await Bus.connect(nats_settings, "check", metrics, within_s=CONNECT_WITHIN_S) as bus:
        context = Context(bus, settings, metrics, structlog.get_logger("microopt.actuator.check"))
        slices, wrong = await desired.get_all(bus, SliceSpec)
        pools, wrong_pools = await desired.get_all(bus, PoolSpec)
        async with AsyncExitStack() as stack:
            drivers = {name: await _opened(name, own, context, stack) for name in sorted(bindings.drivers)}
            allocated = {name: await _allocated(bus, name) for name in slices}
            report = await check(bindings, drivers, slices.values(), pools, allocated)
    report.notes += [*wrong, *wrong_pools]
    return report


async def _opened(name: str, own: ActuatorSettings, context: Context, stack: AsyncExitStack) -> Driver | str:
    try:
        return await stack.enter_async_context(opened(name, own, context))
    except MicrooptError as error:
        return str(error)


async def _allocated(bus: Bus, slice_: str) -> Values:
    """Return the values of the allocation that an actuator has accepted last."""
    kept = await Memory(bus).recall(slice_)
    return kept[-1].values if kept else {}
