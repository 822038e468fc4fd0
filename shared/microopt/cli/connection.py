"""One short-lived connection for a command of an operator."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import nats.errors

from microopt import log, streams
from microopt.bus import Bus
from microopt.errors import TemporaryError
from microopt.settings import LogSettings, NatsSettings, Settings

T = TypeVar("T")

CONNECT_WITHIN_S: Final = 5.0


def with_bus(work: Callable[[Bus], Awaitable[T]]) -> T:
    """Connect as the settings say, make sure that streams and buckets exist, and return what `work` gives.

    Raises:
        ConfigError: no server answers, or it has no JetStream; the text names the remedy.
        TemporaryError: the server went away meanwhile.
    """
    settings = Settings.load()
    log.configure(settings.table("log", LogSettings), agent="cli")  # to stderr: stdout is for the answer

    async def session() -> T:
        nats_settings = settings.table("nats", NatsSettings)
        async with await Bus.connect(nats_settings, "cli", within_s=CONNECT_WITHIN_S) as bus:
            await streams.provision(bus.js)
            return await work(bus)

    try:
        return asyncio.run(session())
    except nats.errors.Error as error:
        raise TemporaryError(f"the NATS server did not do as asked: {error!r}; try again") from error
