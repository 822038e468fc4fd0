"""One short-lived connection for a command of an operator."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from microopt import streams
from microopt.bus import Bus
from microopt.settings import NatsSettings, Settings

T = TypeVar("T")

CONNECT_WITHIN_S: Final = 5.0


def with_bus(work: Callable[[Bus], Awaitable[T]]) -> T:
    """Connect as the settings say, make sure that streams and buckets exist, and return what `work` gives.

    Raises:
        ConfigError: no server answers; the text names the URL and the remedy.
    """

    async def session() -> T:
        settings = Settings.load().table("nats", NatsSettings)
        async with await Bus.connect(settings, "cli", within_s=CONNECT_WITHIN_S) as bus:
            await streams.provision(bus.js)
            return await work(bus)

    return asyncio.run(session())
