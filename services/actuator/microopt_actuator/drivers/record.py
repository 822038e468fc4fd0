"""Dry run: what would be set is logged and remembered, and nothing else happens."""

import structlog


class RecordDriver:
    """A `Driver` that sets nothing; any target holds any value, until the process ends."""

    name = "record"

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._log = structlog.get_logger("microopt.actuator.record")

    async def read(self, target: str) -> float | None:
        """Return what was recorded last, or None."""
        return self._values.get(target)

    async def write(self, target: str, value: float) -> None:
        """Record `value`."""
        self._log.info("would_write", target=target, value=value)
        self._values[target] = value

    def tolerance(self, value: float) -> float:
        """Return 0: what is recorded is read back as it was."""
        return 0.0
