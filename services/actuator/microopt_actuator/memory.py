"""The allocation that each slice had last, and the one that ruled until then, kept across restarts.

The stream's last message is not enough: a lower epoch that was refused may lie behind the one in force, and the
one in force behind one whose interval has yet to begin.
"""

import asyncio
from typing import Final

import nats.errors
import structlog
from nats.js.errors import APIError, KeyDeletedError, KeyNotFoundError
from nats.js.kv import KeyValue

from microopt import codec, streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, TemporaryError
from microopt.messages import Allocation

PREFIX: Final = "actuator"

_AWAY = (nats.errors.Error, APIError)


class Memory:
    """The accepted allocations in the bucket `state`: per slice the newest, and what ruled before it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kv: KeyValue | None = None
        self._log = structlog.get_logger("microopt.actuator.memory")

    async def recall(self, slice_: str) -> list[Allocation]:
        """Return what ruled before, and what was accepted last, by whichever process; each may be absent.

        Raises:
            TemporaryError: the bucket does not answer now.
        """
        keys = (f"{PREFIX}.{slice_}.ruling", f"{PREFIX}.{slice_}")
        kept = await asyncio.gather(*(self._get(key) for key in keys))
        return [allocation for allocation in kept if allocation is not None]

    async def _bucket(self) -> KeyValue:
        if self._kv is None:
            self._kv = await self._bus.js.key_value(streams.STATE)
        return self._kv

    async def _get(self, key: str) -> Allocation | None:
        try:
            entry = await (await self._bucket()).get(key)
            return codec.decode(entry.value or b"", Allocation, origin=f"{streams.STATE}/{key}")
        except (KeyNotFoundError, KeyDeletedError):
            return None
        except InvalidMessageError as error:
            self._log.error("memory_not_usable", error=str(error))
            return None
        except _AWAY as error:
            raise TemporaryError(f"bucket {streams.STATE}: {error!r}") from error

    async def keep(self, allocation: Allocation, ruling: Allocation | None) -> None:
        """Keep `allocation`, and what rules until it is due; if the bucket does not answer, those before stay."""
        key = f"{PREFIX}.{allocation.slice}"
        try:
            kv = await self._bucket()
            if ruling is not None and ruling is not allocation:
                await kv.put(f"{key}.ruling", codec.encode(ruling))  # first: the other key has it until now
            await kv.put(key, codec.encode(allocation))
        except _AWAY as error:
            self._log.warning("allocation_not_kept", slice=allocation.slice, error=repr(error))
