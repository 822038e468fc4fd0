import asyncio
from datetime import UTC, datetime

import pytest

from microopt import streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, TemporaryError
from microopt.messages import Interval, Problem, Solution, Traffic
from microopt.settings import NatsSettings

START = datetime(2026, 1, 1, tzinfo=UTC)


async def stored(bus: Bus, stream: str) -> int:
    return (await bus.js.stream_info(stream)).state.messages


async def test_the_same_fact_published_twice_is_stored_once(bus, telemetry):
    assert await bus.publish(telemetry()) is True
    assert await bus.publish(telemetry()) is False
    assert await stored(bus, streams.TELEMETRY) == 1


async def test_a_value_no_reader_would_accept_is_refused_before_it_is_sent(bus, telemetry):
    with pytest.raises(InvalidMessageError, match=r"\$\.users"):
        await bus.publish(telemetry(users=-1.0))
    assert await stored(bus, streams.TELEMETRY) == 0


async def test_a_publish_survives_a_restart_of_the_server_and_is_stored_once(broker, bus, telemetry):
    await broker.kill()
    publishing = asyncio.create_task(bus.publish(telemetry()))
    await asyncio.sleep(0.3)
    await broker.start()
    assert await publishing is True
    assert await bus.publish(telemetry()) is False
    assert await stored(bus, streams.TELEMETRY) == 1


async def test_a_request_that_nobody_serves_says_so_at_once(bus):
    problem = Problem(pool="edge", interval=Interval(START, 5.0), resources={}, slices=[])
    with pytest.raises(InvalidMessageError, match=r"\$\.resources"):
        await bus.request("microopt.optimize.none", problem, Solution, timeout_s=5)
    with pytest.raises(TemporaryError, match="nobody serves"):
        await bus.request("microopt.optimize.none", Traffic((1.0,), (1.0,)), Solution, timeout_s=5)


async def test_provisioning_again_changes_nothing_and_a_foreign_change_is_put_right(bus, telemetry):
    await bus.publish(telemetry())
    info = await bus.js.stream_info(streams.TELEMETRY)
    info.config.max_age = 60.0
    info.config.duplicate_window = 30.0
    await bus.js.update_stream(info.config)
    await streams.provision(bus.js)
    after = await bus.js.stream_info(streams.TELEMETRY)
    assert after.config.max_age == 30 * streams.DAY_S
    assert after.state.messages == 1


async def test_a_server_that_is_not_there_is_named_with_the_remedy():
    with pytest.raises(Exception, match="microopt up"):
        await Bus.connect(NatsSettings(url="nats://127.0.0.1:9"), "test", within_s=0.5)


async def test_many_are_stored_together_and_each_once(bus, telemetry):
    slots = [telemetry(n) for n in range(300)]
    assert await bus.publish_together(slots) == []
    assert await bus.publish_together([*slots, telemetry(300)]) == []
    assert await stored(bus, streams.TELEMETRY) == 301


async def test_of_many_what_a_server_that_is_away_did_not_store_is_given_back(broker, bus, telemetry):
    slots = [telemetry(n) for n in range(100)]
    await broker.kill()
    left = await bus.publish_together(slots)
    assert left == slots
    await broker.start()
    while left:
        await asyncio.sleep(0.2)
        left = await bus.publish_together(left)
    assert await stored(bus, streams.TELEMETRY) == 100


async def test_one_that_no_reader_would_accept_keeps_all_from_being_sent(bus, telemetry):
    with pytest.raises(InvalidMessageError, match=r"\$\.users"):
        await bus.publish_together([telemetry(0), telemetry(1, users=-1.0)])
    assert await stored(bus, streams.TELEMETRY) == 0
