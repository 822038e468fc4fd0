"""The allocation that each slice had last, kept across restarts.

The stream's last message is not enough: a lower epoch that was refused may lie behind the one in force.
"""

from typing import Final

import nats.errors
import structlog
from nats.js.errors import APIError, KeyDeletedError, KeyNotFoundError

from microopt import codec, streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, TemporaryError
from microopt.messages import Allocation

PREFIX: Final = "actuator"

_AWAY = (nats.errors.Error, APIError)


class Memory:
    """The accepted allocations in the bucket `state`, one key a slice."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._log = structlog.get_logger("microopt.actuator.memory")

    async def recall(self, slice_: str) -> Allocation | None:
        """Return the allocation that was accepted last, by whichever process.

        Raises:
            TemporaryError: the bucket does not answer now.
        """
        key = f"{PREFIX}.{slice_}"
        try:
            kv = await self._bus.js.key_value(streams.STATE)
            entry = await kv.get(key)
            return codec.decode(entry.value or b"", Allocation, origin=f"{streams.STATE}/{key}")
        except (KeyNotFoundError, KeyDeletedError):
            return None
        except InvalidMessageError as error:
            self._log.error("memory_not_usable", error=str(error))
            return None
        except _AWAY as error:
            raise TemporaryError(f"bucket {streams.STATE}: {error!r}") from error

    async def keep(self, allocation: Allocation) -> None:
        """Keep `allocation`; if the bucket does not answer, the one before stays."""
        try:
            kv = await self._bus.js.key_value(streams.STATE)
            await kv.put(f"{PREFIX}.{allocation.slice}", codec.encode(allocation))
        except _AWAY as error:
            self._log.warning("allocation_not_kept", slice=allocation.slice, error=repr(error))
