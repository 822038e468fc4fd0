"""A pool and its slices, and the processes that work for them."""

import pytest

from microopt import streams
from real.world import World


@pytest.fixture
async def world(bus, broker, tmp_path, make_forecast, make_pool):
    await bus.put_spec(streams.POOLS, "edge", make_pool(bandwidth=1e6, cpu=1e6))
    one = World(bus, broker, tmp_path, make_forecast)
    await one.route("one")
    yield one
    await one.end()


@pytest.fixture
def with_slices(world, make_slice):
    async def put(count: int, **fields):
        world.slices = [f"1-{n:06d}" for n in range(1, count + 1)]
        for name in world.slices:
            await world.bus.put_spec(streams.SLICES, name, make_slice(name, **{"interval_s": 20.0, **fields}))

    return put
