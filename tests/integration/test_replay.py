import asyncio

import pytest

from microopt import codec, replay, streams, subjects
from microopt.errors import TemporaryError
from microopt.testing import eventually

SUBJECT = "microopt.telemetry.1-000001"


async def fill(bus, telemetry, count):
    for n in range(count):
        slot = telemetry(n)
        await bus.nc.publish(subjects.of(slot), codec.encode(slot))

    async def all_stored():
        return (await bus.js.stream_info(streams.TELEMETRY)).state.messages == count

    await eventually(all_stored)


async def test_reading_ends_where_the_stream_ended_when_it_began(bus, telemetry, monkeypatch):
    monkeypatch.setattr(replay, "BATCH", 10)
    await fill(bus, telemetry, 30)
    found, later = [], []
    async for messages in replay.replay(bus, streams.TELEMETRY, SUBJECT, start=1, last=30):
        for message in messages:
            found.append(message.metadata.sequence.stream)
            later.append(asyncio.ensure_future(bus.publish(telemetry(1000 + len(found)))))
    await asyncio.gather(*later)
    assert found == list(range(1, 31))
    assert await bus.js.consumers_info(streams.TELEMETRY) == []


async def test_reading_begins_at_a_sequence_and_keeps_to_its_subject(bus, telemetry):
    await fill(bus, telemetry, 20)
    await bus.publish(telemetry(0, slice="2"))
    found = [
        message.metadata.sequence.stream
        async for messages in replay.replay(bus, streams.TELEMETRY, SUBJECT, start=15, last=21)
        for message in messages
    ]
    assert found == list(range(15, 21))


async def test_a_message_that_was_lost_on_its_way_is_an_error(bus, telemetry, monkeypatch):
    """What another takes from the same consumer is lost as what a cut connection swallows."""
    monkeypatch.setattr(replay, "BATCH", 10)
    await fill(bus, telemetry, 1000)
    stolen = await bus.nc.subscribe("thief")

    async def read_while_another_takes():
        async for _ in replay.replay(bus, streams.TELEMETRY, SUBJECT, start=1, last=1000):
            [consumer] = await bus.js.consumers_info(streams.TELEMETRY)
            asked = f"$JS.API.CONSUMER.MSG.NEXT.{streams.TELEMETRY}.{consumer.name}"
            await bus.nc.publish(asked, b"5", reply="thief")

    with pytest.raises(TemporaryError, match=f"{SUBJECT}: a message was lost .* try again"):
        await read_while_another_takes()
    await stolen.unsubscribe()
