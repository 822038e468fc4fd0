"""Dry run: what would be set is logged and remembered, and nothing else happens."""

from contextlib import AbstractAsyncContextManager, nullcontext

import structlog

from microopt.agent import Context
from microopt_actuator.drivers.base import Driver, Write
from microopt_actuator.settings import ActuatorSettings


class RecordDriver:
    """A `Driver` that sets nothing; any target holds any value, until the process ends."""

    name = "record"
    unit = None

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._log = structlog.get_logger("microopt.actuator.record")

    async def plan(self, target: str, value: float) -> Write:
        """Return that `value` is remembered."""
        steps = () if self._values.get(target) == value else (f"record {target} = {value:g}",)
        return Write(target, value, holds=value, tolerance=0.0, steps=steps)

    async def apply(self, write: Write) -> None:
        """Record the value."""
        self._log.info("would_write", target=write.target, value=write.value)
        self._values[write.target] = write.value

    async def read(self, target: str) -> float | None:
        """Return what was recorded last, or None."""
        return self._values.get(target)


def opened(_: ActuatorSettings, __: Context) -> AbstractAsyncContextManager[Driver]:
    """Return the driver; it has no settings."""
    return nullcontext(RecordDriver())
