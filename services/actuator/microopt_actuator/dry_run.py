"""Everything but the writing: what would be written is planned, checked and said."""

from dataclasses import replace

import structlog

from microopt_actuator.drivers.base import Driver, Write


class DryRun:
    """A `Driver` that plans and reads through another and writes nothing.

    A target is taken to hold what would have been written, until somebody else changes it.
    """

    def __init__(self, driver: Driver) -> None:
        self.name = driver.name
        self.unit = driver.unit
        self._driver = driver
        self._assumed: dict[str, tuple[float | None, float]] = {}
        self._log = structlog.get_logger("microopt.actuator.dry_run")

    async def plan(self, target: str, value: float) -> Write:
        """Return what the driver would write; nothing where that was said already."""
        write = await self._driver.plan(target, value)
        _, assumed = self._assumed.get(target, (None, None))
        return replace(write, steps=()) if write.is_held_by(assumed) else write

    async def apply(self, write: Write) -> None:
        """Say what would be written."""
        has = await self._driver.read(write.target)
        self._log.info("would_write", driver=self.name, target=write.target, has=has, steps=write.steps)
        self._assumed[write.target] = has, write.holds

    async def read(self, target: str) -> float | None:
        """Return what would be in force."""
        has = await self._driver.read(target)
        then, assumed = self._assumed.get(target, (None, has))
        if target in self._assumed and has != then:
            del self._assumed[target]
            return has
        return assumed
