"""Fencing numbers: each pool's epoch only grows, whoever asks for the next one (docs/adr/0003-epochs.md)."""

import time
from collections.abc import Callable
from typing import Final

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from microopt import streams
from microopt.bus import Bus
from microopt.errors import TemporaryError

ATTEMPTS: Final = 10


async def next_epoch(bus: Bus, pool: str, clock: Callable[[], float] = time.time) -> int:
    """Return an epoch that nobody else has, higher than all before it.

    It is at least the Unix time in seconds, so that it also grows when the store of the bus was lost while
    actuators still remember the epochs that were given out.

    Raises:
        TemporaryError: other routers of this pool won every time.
    """
    kv = await bus.js.key_value(streams.STATE)
    key = f"epoch.{pool}"
    for _ in range(ATTEMPTS):
        try:
            entry = await kv.get(key)
            last, revision = _number(entry.value, key), entry.revision
        except KeyNotFoundError:
            last, revision = 0, None
        epoch = max(last + 1, int(clock()))
        try:
            if revision is None:
                await kv.create(key, str(epoch).encode())
            else:
                await kv.update(key, str(epoch).encode(), last=revision)
        except KeyWrongLastSequenceError:  # another router of this pool was faster
            continue
        return epoch
    raise TemporaryError(f"pool {pool}: no epoch after {ATTEMPTS} attempts; how many routers serve this pool?")


def _number(value: bytes | None, key: str) -> int:
    try:
        return int(value or b"0")
    except ValueError as error:
        raise TemporaryError(
            f"{streams.STATE}/{key} holds {value!r}, which is no number; delete the key"
        ) from error
