"""pytest fixtures: `broker` is a real nats-server of this test alone, `bus` a connection to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from microopt import streams
from microopt.broker import Broker
from microopt.bus import Bus
from microopt.settings import NatsSettings


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Start a nats-server with JetStream on a free loopback port, with its store in `tmp_path`."""
    server = Broker(tmp_path / "nats")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    """Connect to `broker`, with all streams and buckets in place."""
    async with await Bus.connect(NatsSettings(url=broker.url), "test", within_s=10) as connection:
        await streams.provision(connection.js)
        yield connection
