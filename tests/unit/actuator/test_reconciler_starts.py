"""Allocations whose interval has yet to begin, and restarts in between."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from microopt.errors import PermanentError
from microopt.testing import eventually
from microopt_actuator import reconciler
from microopt_actuator.reconciler import utc_now

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"
PEAK = {CPU: 4000.0, BANDWIDTH: 20.0}


async def test_an_allocation_takes_effect_at_its_start_and_until_then_the_former_is_held(
    world, allocation, upcoming
):
    async with world() as it:
        it.reconciler.accept(allocation(1))
        await it.reaches((1, "applied"), (1, "verified"))
        it.reconciler.accept(upcoming(2, {CPU: 3000.0}))
        it.wait(59.9)
        it.shelf.values["1.gnb_cpu"] = 4500.0
        await it.reaches(*[(1, "applied"), (1, "verified")] * 2)
        assert it.shelf.values == {"1.gnb_cpu": 2000.0}
        it.wait(0.1)
        await it.reaches(*[(1, "applied"), (1, "verified")] * 2, (2, "applied"), (2, "verified"))
    assert it.shelf.values == {"1.gnb_cpu": 3000.0}


async def test_all_that_is_due_at_one_instant_is_asked_for_at_that_instant(world, make_shelf, upcoming):
    shelf = make_shelf()
    async with world(shelf, specs=("1", "2")) as it:
        for name in ("1", "2"):
            it.reconciler.accept(upcoming(1, {CPU: 3000.0, BANDWIDTH: 30.0}, name))
        await it.settles()
        assert shelf.writes == it.reports == []
        it.wait(60)
        await eventually(lambda: len(shelf.values) == 4)
    assert sorted(shelf.writes) == sorted(shelf.values.items())


async def test_until_the_start_the_blind_policy_of_the_former_allocation_rules(world, allocation, upcoming):
    async with world(blind_policy="peak", peak_allocation=PEAK) as it:
        it.reconciler.accept(allocation(1, valid_s=30.0))
        it.reconciler.accept(upcoming(2, {CPU: 3000.0}))
        await it.reaches((1, "applied"), (1, "verified"))
        it.wait(30)
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 4000.0, "1.transport_bandwidth": 20.0})
        assert it.metric("blind", slice="1") == 1.0
        it.wait(30)
        await eventually(lambda: it.shelf.values["1.gnb_cpu"] == 3000.0)
        assert it.metric("blind", slice="1") == 0.0


async def test_a_newer_allocation_replaces_the_one_that_waits(world, upcoming):
    async with world() as it:
        it.reconciler.accept(upcoming(1, {CPU: 1000.0}))
        it.reconciler.accept(upcoming(2, {CPU: 3000.0}))
        it.wait(60)
        await it.reaches((2, "applied"), (2, "verified"))
    assert it.shelf.writes == [("1.gnb_cpu", 3000.0)]


async def test_an_allocation_that_waits_and_is_due_is_not_replaced_by_the_next_that_waits(world, upcoming):
    async with world() as it:
        it.reconciler.accept(upcoming(1, {CPU: 1000.0}))
        it.now += timedelta(seconds=60)  # nobody has looked at the clock yet
        it.reconciler.accept(upcoming(2, {CPU: 3000.0}, in_s=120.0))
        await it.reaches((1, "applied"), (1, "verified"))
        it.wait(60)
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 3000.0})


async def test_epochs_are_compared_with_the_one_that_waits(world, allocation, upcoming):
    async with world() as it:
        it.reconciler.accept(allocation(1))
        it.reconciler.accept(upcoming(5))
        with pytest.raises(PermanentError, match="epoch 4 is lower than 5"):
            it.reconciler.accept(allocation(4))
        with pytest.raises(PermanentError, match="epoch 5 has come before with other values"):
            it.reconciler.accept(upcoming(5, {CPU: 300.0}))
        it.reconciler.accept(upcoming(5, valid_s=7200.0))
        last = it.reconciler.last("1")
        assert last is not None
        assert (last.epoch, last.valid_until) == (5, NOW + timedelta(seconds=7260))


async def test_the_clock_is_followed_to_the_nearest_start_and_expiry(world, upcoming, monkeypatch):
    monkeypatch.setattr(reconciler, "LONGEST_SLEEP_S", 3600.0)
    async with world(clock=utc_now, blind_policy="peak", peak_allocation=PEAK) as it:
        following = asyncio.create_task(it.reconciler.follow_clock())
        await it.settles(5)  # asleep, with nothing to wait for
        ahead_s = (utc_now() - NOW).total_seconds() + 0.2
        it.reconciler.accept(upcoming(1, in_s=ahead_s + 1000.0))
        it.reconciler.accept(upcoming(2, in_s=ahead_s, valid_s=0.3))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 4000.0, "1.transport_bandwidth": 20.0})
        following.cancel()
        await asyncio.wait({following})
    assert it.shelf.writes[0] == ("1.gnb_cpu", 2000.0)
    assert min(r.at for r in it.reports) >= NOW + timedelta(seconds=ahead_s)


async def test_after_a_restart_what_rules_is_held_and_what_waits_still_waits(world, allocation, upcoming):
    kept = [allocation(5), upcoming(6, {CPU: 3000.0})]
    async with world() as it:
        it.reconciler.restore("1", kept)
        it.reconciler.accept(kept[1])
        await it.reaches((5, "applied"), (5, "verified"))
        await it.settles()
        it.wait(60)
        await it.reaches((5, "applied"), (5, "verified"), (6, "applied"), (6, "verified"))
    assert it.shelf.writes == [("1.gnb_cpu", 2000.0), ("1.gnb_cpu", 3000.0)]
