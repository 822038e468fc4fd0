"""Setting a live slice's resources through the actuator's own drivers, and reading them back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog

from microopt.agent import Context
from microopt.bus import Bus
from microopt.errors import ConfigError, TemporaryError
from microopt.metrics import AgentMetrics
from microopt.settings import Settings
from microopt_actuator.drivers.base import Driver
from microopt_actuator.registry import opened
from microopt_actuator.settings import ActuatorSettings
from microopt_testbed.live.lab import Lab
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH

DRIVER_OF: Final = {TRANSPORT_BANDWIDTH: "ovs", GNB_CPU: "cgroup"}
PAUSES_S: Final = (0.5, 1.0, 2.0)
"""A switch may be behind for a moment on a busy machine."""
MIN_MILLICORES: Final = 10.0
"""The kernel's least quota, 1 ms, in its usual period of 100 ms."""


def actuator_table(lab: Lab) -> dict[str, Any]:
    """Return [actuator] for an actuator of this testbed."""
    bindings = [
        {"slice": name, "resource": resource, "driver": driver, "target": target(lab, name, resource)}
        for name in lab.settings.slices
        for resource, driver in DRIVER_OF.items()
    ]
    return {"bindings": bindings, "ovs": {"remote": lab.ovsdb}}


def target(lab: Lab, slice_: str, resource: str) -> str:
    """Return a slice's resource in its driver's notation."""
    return lab.queue(slice_) if resource == TRANSPORT_BANDWIDTH else lab.cgroup(slice_)


class Knobs:
    """The resources of a testbed's slices."""

    def __init__(self, lab: Lab, drivers: Mapping[str, Driver]) -> None:
        self._lab = lab
        self._drivers = drivers

    async def set(self, slice_: str, values: Mapping[str, float]) -> None:
        """Put values in force, and make sure that they are.

        Raises:
            MicrooptError: a driver refuses.
            ConfigError: something else is read back.
        """
        for resource, value in values.items():
            for pause_s in (*PAUSES_S, None):
                try:
                    await self._set(self._drivers[DRIVER_OF[resource]], target(self._lab, slice_, resource), value)
                    break
                except TemporaryError:
                    if pause_s is None:
                        raise
                    await asyncio.sleep(pause_s)

    async def _set(self, driver: Driver, where: str, value: float) -> None:
        write = await driver.plan(where, value)
        await driver.apply(write)
        observed = await driver.read(where)
        if not write.is_held_by(observed):
            raise ConfigError(f"{where}: {value:g} was set, {observed} is read")


@asynccontextmanager
async def opened_for(lab: Lab) -> AsyncIterator[Knobs]:
    """Open the drivers of a testbed."""
    settings = Settings({"actuator": actuator_table(lab)}, "testbed")
    metrics = AgentMetrics()
    context = Context(Bus("testbed", metrics), settings, metrics, structlog.get_logger("microopt.testbed"))
    table = settings.table("actuator", ActuatorSettings)
    async with AsyncExitStack() as stack:
        names = set(DRIVER_OF.values())
        yield Knobs(lab, {name: await stack.enter_async_context(opened(name, table, context)) for name in names})
