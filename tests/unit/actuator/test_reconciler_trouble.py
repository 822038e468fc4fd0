"""Drivers that are away, refuse, hang or crash, and values that do not stay."""

import pytest

from microopt.testing import eventually
from microopt_actuator import worker
from microopt_actuator.settings import ActuatorSettings

CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"


async def test_a_driver_that_is_away_is_tried_until_it_is_back(world, allocation, make_shelf):
    shelf = make_shelf()
    shelf.away.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await eventually(lambda: it.metric("writes_total", driver="shelf", outcome="temporary") == 2.0)
        assert it.states() == [(1, "failed")]
        assert it.reports[0].error == "1.gnb_cpu is away"
        shelf.away.clear()
        await it.reaches((1, "failed"), (1, "applied"), (1, "verified"))


async def test_only_the_newest_of_many_allocations_is_written_once_a_driver_is_back(world, allocation, make_shelf):
    shelf = make_shelf()
    shelf.away.add("1.gnb_cpu")
    async with world(shelf) as it:
        for epoch in range(1, 6):
            it.reconciler.accept(allocation(epoch, {CPU: 1000.0 + epoch}))
            await it.settles(5)
        shelf.away.clear()
        await eventually(lambda: (5, "verified") in it.states())
    assert shelf.writes == [("1.gnb_cpu", 1005.0)]


@pytest.mark.parametrize("trouble", ["away", "refusing", "stuck", "hanging", "broken"])
async def test_one_resource_in_trouble_holds_up_no_other(world, allocation, make_shelf, trouble):
    shelf = make_shelf()
    getattr(shelf, trouble).add("1.gnb_cpu")
    async with world(shelf, specs=("1", "2")) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 10.0}))
        it.reconciler.accept(allocation(1, {CPU: 2000.0}, "2"))
        await it.reaches((1, "applied"), (1, "verified"), resource=BANDWIDTH)
        await it.reaches((1, "applied"), (1, "verified"), slice_="2")
        assert "verified" not in [state for _, state in it.states()]


async def test_a_driver_that_never_answers_counts_as_away(world, allocation, make_shelf, monkeypatch):
    monkeypatch.setattr(worker, "ATTEMPT_S", 0.05)
    shelf = make_shelf()
    shelf.hanging.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "failed"))
        assert "no answer within 0.05 s" in it.reports[0].error
        shelf.hanging.clear()
        await it.reaches((1, "failed"), (1, "applied"), (1, "verified"))


async def test_a_mistake_in_a_driver_is_reported_and_tried_again(world, allocation, make_shelf):
    shelf = make_shelf()
    shelf.broken.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "failed"))
        assert "KeyError" in it.reports[0].error
        assert it.metric("writes_total", driver="shelf", outcome="crashed") >= 1.0
        shelf.broken.clear()
        await it.reaches((1, "failed"), (1, "applied"), (1, "verified"))


async def test_a_value_that_does_not_stay_is_reported_with_what_was_observed_and_only_once(
    world, allocation, make_shelf
):
    shelf = make_shelf({"1.gnb_cpu": 500.0})
    shelf.stuck.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await eventually(lambda: it.metric("writes_total", driver="shelf", outcome="differs") >= 3.0)
        assert it.states() == [(1, "applied"), (1, "failed")]
        assert it.reports[-1].observed == 500.0
        assert it.reports[-1].error == "1.gnb_cpu: requested 2000, observed 500"
        shelf.stuck.clear()
        await it.reaches((1, "applied"), (1, "failed"), (1, "verified"))


async def test_what_somebody_else_has_changed_is_put_back_and_counted(world, allocation):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.shelf.values["1.gnb_cpu"] = 4500.0
        await it.reaches((1, "applied"), (1, "verified"), (1, "applied"), (1, "verified"))
    assert it.shelf.values == {"1.gnb_cpu": 2000.0}
    assert it.metric("drift_total", slice="1", resource=CPU) == 1.0


async def test_a_verified_value_that_cannot_be_read_for_a_while_is_not_called_failed(world, allocation):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.shelf.away.add("1.gnb_cpu")
        await eventually(lambda: it.metric("writes_total", driver="shelf", outcome="temporary"))
        it.shelf.away.clear()
        await it.settles(200)
    assert it.states() == [(1, "applied"), (1, "verified")]
    assert it.metric("drift_total", slice="1", resource=CPU) == 0.0


async def test_a_verified_value_that_cannot_be_read_for_long_has_failed_until_it_is_read_again(
    world, allocation, monkeypatch
):
    monkeypatch.setattr(worker, "UNREAD_S", 0.1)
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.shelf.away.add("1.gnb_cpu")
        await it.reaches((1, "applied"), (1, "verified"), (1, "failed"))
        assert it.reports[-1].error == "1.gnb_cpu is away"
        it.shelf.away.clear()
        await it.reaches((1, "applied"), (1, "verified"), (1, "failed"), (1, "verified"))
    assert it.shelf.writes == [("1.gnb_cpu", 2000.0)]


async def test_what_comes_back_after_a_long_time_has_its_value_within_two_seconds(world, allocation, make_shelf):
    shelf = make_shelf()
    shelf.away.add("1.gnb_cpu")
    async with world(shelf, check_every_s=ActuatorSettings().check_every_s) as it:
        it.reconciler.accept(allocation())
        tries = len(worker.BACKOFF_S) + 2  # it tries as seldom as it ever will
        temporary = {"driver": "shelf", "outcome": "temporary"}
        await eventually(lambda: it.metric("writes_total", **temporary) >= tries)
        shelf.away.clear()
        await eventually(lambda: shelf.values == {"1.gnb_cpu": 2000.0}, within_s=2.0)


async def test_other_things_behind_the_same_target_are_no_fight(world, allocation):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        for number in range(2 * worker.FIGHTS):
            it.shelf.things["1.gnb_cpu"] = f"pod {number}"
            it.shelf.values["1.gnb_cpu"] = 4500.0
            await eventually(lambda: it.shelf.values["1.gnb_cpu"] == 2000.0 and it.states()[-1] == (1, "verified"))
        assert it.metric("drift_total", slice="1", resource=CPU) == 2 * worker.FIGHTS
        assert "failed" not in [state for _, state in it.states()]


async def test_things_that_are_replaced_without_end_are_given_up_too(world, allocation, monkeypatch):
    monkeypatch.setattr(worker, "RENEWALS", 4)
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        for number in range(4):
            it.shelf.things["1.gnb_cpu"] = f"queue {number}"
            it.shelf.values["1.gnb_cpu"] = 4500.0
            await eventually(lambda: it.shelf.values["1.gnb_cpu"] != 4500.0 or it.states()[-1] == (1, "failed"))
        assert "changed by somebody else 4 times" in it.reports[-1].error
        assert it.metric("contested", slice="1", resource=CPU) == 1.0


async def test_a_wish_that_waits_for_its_turn_is_not_written_once_a_newer_one_has_come(
    world, allocation, make_shelf
):
    shelf = make_shelf({"1.gnb_cpu": 1000.0, "2.gnb_cpu": 3000.0})
    async with world(shelf, specs=("1", "2")) as it:
        for name, value in (("1", 1000.0), ("2", 3000.0)):
            it.reconciler.accept(allocation(1, {CPU: value}, name))
            await it.reaches((1, "verified"), slice_=name)
        shelf.hanging.add("2.gnb_cpu")
        it.reconciler.accept(allocation(2, {CPU: 1500.0}, "2"))
        it.reconciler.accept(allocation(2, {CPU: 2500.0}))
        await it.settles()
        it.reconciler.accept(allocation(3, {CPU: 1200.0}))
        await eventually(lambda: (3, "verified") in it.states())
    assert [value for target, value in shelf.writes if target == "1.gnb_cpu"] == [1200.0]


async def test_changes_that_lie_far_apart_are_no_fight(world, allocation, monkeypatch):
    monkeypatch.setattr(worker, "FIGHT_S", 0.0)
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        for _ in range(2 * worker.FIGHTS):
            it.shelf.values["1.gnb_cpu"] = 4500.0
            await eventually(lambda: it.shelf.values["1.gnb_cpu"] == 2000.0 and it.states()[-1] == (1, "verified"))
        assert it.metric("contested", slice="1", resource=CPU) == 0.0


async def test_a_value_that_is_as_wished_but_not_as_the_driver_writes_it_is_written(world, allocation, make_shelf):
    shelf = make_shelf({"1.gnb_cpu": 2000.0})
    shelf.unowned = True
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        await it.settles()
    assert shelf.writes == [("1.gnb_cpu", 2000.0)]


async def test_reports_tell_how_long_it_took(world, allocation, make_shelf):
    shelf = make_shelf()
    shelf.slow_s = 0.05
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
    applied, verified = it.reports
    assert 0.05 <= applied.duration_s <= verified.duration_s


async def test_a_value_that_somebody_else_keeps_changing_is_given_up_loudly_until_the_next_allocation(
    world, allocation
):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        while it.metric("drift_total", slice="1", resource=CPU) < worker.FIGHTS:
            it.shelf.values["1.gnb_cpu"] = 4500.0
            await eventually(lambda: it.shelf.values["1.gnb_cpu"] != 4500.0 or it.states()[-1] == (1, "failed"))
        await it.settles(100)
        assert it.shelf.values == {"1.gnb_cpu": 4500.0}
        assert it.reports[-1].state == "failed"
        assert it.reports[-1].observed == 4500.0
        assert "changed by somebody else 5 times within 60 s, last to 4500" in it.reports[-1].error
        assert it.metric("contested", slice="1", resource=CPU) == 1.0
        it.reconciler.accept(allocation(2))
        await eventually(lambda: it.states()[-2:] == [(2, "applied"), (2, "verified")])
    assert it.shelf.values == {"1.gnb_cpu": 2000.0}
    assert it.metric("writes_total", driver="shelf", outcome="contested") == 1.0
    assert it.metric("contested", slice="1", resource=CPU) == 0.0
