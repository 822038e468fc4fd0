import asyncio
from datetime import UTC, datetime

import pytest

from microopt import codec, streams, subjects
from microopt.errors import TemporaryError
from microopt.testing import eventually
from microopt_collector.dataset import stored

SLICE = "1-000001"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


async def fill(bus, telemetry, count):
    for n in range(count):
        slot = telemetry(n)
        await bus.nc.publish(subjects.of(slot), codec.encode(slot))

    async def all_stored():
        return (await bus.js.stream_info(streams.TELEMETRY)).state.messages == count

    await eventually(all_stored)


async def test_reading_ends_where_the_stream_ended_when_it_began(bus, telemetry, monkeypatch):
    monkeypatch.setattr(stored, "BATCH", 10)
    await fill(bus, telemetry, 30)
    found, later = [], []

    def take(slot, _):
        found.append(slot.time)
        later.append(asyncio.ensure_future(bus.publish(telemetry(1000 + len(found)))))

    result = await stored.read(bus, SLICE, SINCE, take, lambda _: None)
    await asyncio.gather(*later)
    assert result.read == len(found) == len(set(found)) == 30
    assert await bus.js.consumers_info(streams.TELEMETRY) == []


async def test_telemetry_that_was_lost_on_its_way_is_an_error(bus, telemetry, monkeypatch):
    """What another takes from the same consumer is lost as what a cut connection swallows."""
    monkeypatch.setattr(stored, "BATCH", 10)
    await fill(bus, telemetry, 1000)
    began = asyncio.Event()
    stolen = await bus.nc.subscribe("thief")

    async def steal():
        await began.wait()
        [consumer] = await bus.js.consumers_info(streams.TELEMETRY)
        await bus.nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{streams.TELEMETRY}.{consumer.name}", b"5", reply="thief")

    thief = asyncio.create_task(steal())
    with pytest.raises(TemporaryError, match=f"telemetry of slice {SLICE} was lost .* try again"):
        await stored.read(bus, SLICE, SINCE, lambda *_: began.set(), lambda _: None)
    await thief
    await stolen.unsubscribe()
