"""The auditor on a real bus: what intervals came to, and the margins that follow."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from nats.js.errors import NotFoundError

from microopt import codec, desired, streams, subjects
from microopt.errors import InvalidMessageError
from microopt.messages import (
    Assurance,
    Event,
    Interval,
    Telemetry,
)
from microopt.specs import Margin
from microopt.testing import eventually, running
from microopt_optimizer.auditor.following import Following
from microopt_optimizer.auditor.margins import Margins
from real.auditor import INTERVAL_S, SLOT_S, allocated, auditor, count_of, over, play, stored


async def test_an_interval_that_is_over_becomes_an_assurance_of_each_slice(bus, broker, slices):
    interval = over()
    async with running(auditor(), broker.url):
        await play(bus, interval, "1", missed=1, epoch=1)
        await play(bus, interval, "2", missed=4, epoch=1)
        found = await eventually(lambda: count_of(bus, Assurance, 2))
    by_slice = {one.slice: one for one in found}
    assert (by_slice["1"].status, by_slice["1"].realised) == ("FULFILLED", 0.1)
    assert (by_slice["2"].status, by_slice["2"].realised) == ("NOT_FULFILLED", 0.4)
    assert by_slice["1"].cost == pytest.approx(20 / 50 + 0.5)
    assert (by_slice["1"].users_slots, by_slice["1"].slots, by_slice["1"].known_slots) == (20.0, 10, 10)


async def test_an_interval_is_not_judged_before_it_is_over(bus, broker, slices):
    running_on = Interval(datetime.now(UTC) - timedelta(seconds=2), INTERVAL_S)
    async with running(auditor(), broker.url):
        await play(bus, running_on, "1", epoch=2)
        await play(bus, over(), "2", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        await asyncio.sleep(0.3)
        assert [one.slice for one in await stored(bus, Assurance)] == ["2"]


async def test_a_restarted_auditor_says_nothing_twice_and_leaves_nothing_out(bus, broker, slices):
    async with running(auditor(), broker.url):
        await play(bus, over(1), "1", epoch=1)
        [first] = await eventually(lambda: count_of(bus, Assurance, 1))
    await forget_ids(bus)
    await play(bus, Interval(first.interval.end, INTERVAL_S), "1", missed=10, epoch=2)  # nobody looks
    async with running(auditor(), broker.url):
        found = await eventually(lambda: count_of(bus, Assurance, 2))
        await asyncio.sleep(0.3)
        assert await stored(bus, Assurance) == found
    assert [(one.epoch, one.realised) for one in found] == [(1, 0.0), (2, 1.0)]
    await forget_ids(bus)
    async with running(auditor(), broker.url):
        await asyncio.sleep(1.0)
    assert await stored(bus, Assurance) == found


async def forget_ids(bus) -> None:
    """Let the server forget the ids that it has seen, as it does after two minutes."""
    config = (await bus.js.stream_info(streams.ASSURANCES)).config
    config.duplicate_window = 0.1
    await bus.js.update_stream(config)
    await asyncio.sleep(0.3)


async def test_two_auditors_say_each_interval_once(bus, broker, slices):
    async with running(auditor(), broker.url), running(auditor(), broker.url):
        for name in ("1", "2"):
            await play(bus, over(), name, epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 2))
        await asyncio.sleep(0.3)
    assert sorted(one.slice for one in await stored(bus, Assurance)) == ["1", "2"]


async def test_what_is_no_telemetry_is_kept_aside_and_stops_nothing(bus, broker, slices):
    async with running(auditor(), broker.url):
        await bus.js.publish("microopt.telemetry.1", b'{"type":"microopt.telemetry.v1","users":-1}')
        forged = Telemetry(slice="2", time=datetime.now(UTC), slot_s=SLOT_S, users=1.0, qos=1.0)
        await bus.js.publish("microopt.telemetry.1", codec.encode(forged))
        await play(bus, over(), "1", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        dead = (await bus.js.stream_info(streams.DEAD)).state.messages
    assert dead == 2


async def test_an_interval_that_cannot_be_put_into_words_stops_no_other_slice(bus, broker, slices):
    """Each number is one that telemetry may hold, and their sum is none that an assurance may."""
    async with running(auditor(), broker.url):
        await play(bus, over(), "2", epoch=1, users=1e12)
        await play(bus, over(), "1", epoch=1)
        [found] = await eventually(lambda: count_of(bus, Assurance, 1))
    assert found.slice == "1"


async def test_an_allocation_that_ends_after_the_last_year_is_kept_aside_and_stops_nothing(bus, broker, slices):
    absurd = Interval(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), INTERVAL_S)
    async with running(auditor(), broker.url):
        await bus.js.publish("microopt.allocation.2", codec.encode(allocated("2", absurd, epoch=1)))
        await play(bus, over(), "1", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        assert (await bus.js.stream_info(streams.DEAD)).state.messages == 1


async def test_what_a_reader_fails_at_is_kept_aside_and_nothing_is_read_twice(bus):
    for name in ("1", "2", "3"):
        await bus.publish(Telemetry(slice=name, time=datetime.now(UTC), slot_s=SLOT_S, users=1.0, qos=1.0))
    since, taken = datetime.now(UTC) - timedelta(minutes=1), []
    following = Following(bus, Telemetry, subjects.ALL[Telemetry], since=since)

    def take(telemetry, _):
        taken.append(telemetry.slice)
        if telemetry.slice == "2":
            raise ZeroDivisionError

    await following.read(take)
    await following.read(take)
    assert taken == ["1", "2", "3"]
    dead = await bus.js.get_last_msg(streams.DEAD, subjects.dead("test"))
    assert dead.headers["Microopt-Error"].startswith("ZeroDivisionError")


async def test_an_assurance_that_cannot_be_read_holds_up_no_later_one(bus, broker, slices):
    await bus.js.publish("microopt.assurance.1", b"junk")
    async with running(auditor(), broker.url):
        await play(bus, over(1), "1", epoch=1)
        first = await eventually(lambda: last_said(bus, epoch=1))
        await bus.js.publish("microopt.assurance.1", b"more junk")
        await play(bus, Interval(first.interval.end, INTERVAL_S), "1", epoch=2)
        await eventually(lambda: last_said(bus, epoch=2))


async def last_said(bus, epoch: int) -> Assurance | None:
    try:
        message = await bus.js.get_last_msg(streams.ASSURANCES, "microopt.assurance.1")
        found = codec.decode(message.data, Assurance, origin=message.subject)
    except (NotFoundError, InvalidMessageError):
        return None
    return found if found.epoch == epoch else None


async def test_a_stream_of_assurances_that_is_emptied_is_filled_again(bus, broker, slices):
    async with running(auditor(), broker.url):
        await play(bus, over(1), "1", epoch=1)
        [first] = await eventually(lambda: count_of(bus, Assurance, 1))
        await bus.js.purge_stream(streams.ASSURANCES)
        await play(bus, Interval(first.interval.end, INTERVAL_S), "1", epoch=2)
        await eventually(lambda: last_said(bus, epoch=2))


# Margins


async def test_margins_follow_a_rule_once_for_each_interval_and_large_changes_are_events(bus, broker, slices):
    learned = []

    def rule(margin, spec, assurance):
        learned.append((margin.degradation_threshold if margin else None, assurance.realised))
        threshold = 0.095 if margin is None else 0.05
        return Margin(slice=spec.slice, degradation_threshold=threshold)

    async with running(auditor(rule), broker.url), running(auditor(rule), broker.url):
        await play(bus, over(1), "1", missed=5, epoch=1)
        first = await eventually(lambda: desired.get(bus, Margin, "1"))
        assert first.degradation_threshold == 0.095
        assert await stored(bus, Event) == []  # by 5 %
        [assurance] = await stored(bus, Assurance)
        await play(bus, Interval(assurance.interval.end, INTERVAL_S), "1", missed=6, epoch=2)
        [event] = await eventually(lambda: count_of(bus, Event, 1))
    assert list(dict.fromkeys(learned)) == [(None, 0.5), (0.095, 0.6)]  # both may try, one writes
    assert (event.kind, event.slice, event.epoch) == ("margin", "1", 2)
    assert re.search(r"a degradation of 0\.05 in place of 0\.(1|095) ", event.reason)  # as the teller had seen it
    kept = await desired.get(bus, Margin, "1")
    assert (kept.degradation_threshold, kept.at) == (0.05, event.interval.end)
    assert kept.sla_threshold == 0.1  # the SLA's, so that it is known when that is another one


async def test_an_interval_whose_margin_was_lost_in_a_crash_is_learned_from_at_the_start(bus, broker, slices):
    async with running(auditor(), broker.url):  # has no rule, and so learns nothing
        await play(bus, over(), "1", missed=5, epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))

    def rule(_, spec, assurance):
        return Margin(slice=spec.slice, degradation_threshold=assurance.realised / 10)

    async with running(auditor(rule), broker.url):
        margin = await eventually(lambda: desired.get(bus, Margin, "1"))
    assert margin.degradation_threshold == 0.05


async def test_a_margin_learns_from_what_an_auditor_said_that_did_not_live_to_learn(bus, broker, slices):
    def rule(_, spec, assurance):
        return Margin(slice=spec.slice, degradation_threshold=assurance.realised / 10)

    async with running(auditor(rule), broker.url):
        await play(bus, over(), "2", epoch=1)
        [own] = await eventually(lambda: count_of(bus, Assurance, 1))  # it has begun to follow them
        await bus.publish(replace(own, slice="1", status="NOT_FULFILLED", realised=0.5))
        margin = await eventually(lambda: desired.get(bus, Margin, "1"))
    assert margin.degradation_threshold == 0.05


async def test_a_margin_learns_nothing_while_a_mode_keeps_what_is_in_force(bus, make_slice):
    """It would ask for more and more, and nobody would have tried what it asked for before."""
    margins = Margins(bus, lambda _, spec, __: Margin(slice=spec.slice, degradation_threshold=0.05))
    frozen = Assurance(
        slice="1",
        pool="edge",
        interval=over(),
        epoch=1,
        optimizer="one",
        status="NOT_FULFILLED",
        degradation_threshold=0.1,
        cost=1.0,
        at=datetime.now(UTC),
        realised=0.5,
        fallback="force",
    )
    await margins.learn(frozen, make_slice("1"))
    assert await desired.get(bus, Margin, "1") is None
    await margins.learn(replace(frozen, fallback="last"), make_slice("1"))
    assert await desired.get(bus, Margin, "1") is not None


async def test_a_rule_that_fails_stops_no_assurance(bus, broker, slices):
    def rule(*_):
        raise ZeroDivisionError

    async with running(auditor(rule), broker.url):
        await play(bus, over(), "1", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 1))
        await play(bus, over(), "2", epoch=1)
        await eventually(lambda: count_of(bus, Assurance, 2))
