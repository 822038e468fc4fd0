"""What rules once an allocation has expired, bounds have changed, or a slice is gone."""

from datetime import UTC, datetime, timedelta

import pytest
import structlog

from microopt.errors import PermanentError
from microopt.specs import Bounds
from microopt.testing import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"
PEAK = {CPU: 4000.0, BANDWIDTH: 20.0}
NARROW = {CPU: Bounds(100.0, 1500.0), BANDWIDTH: Bounds(25.0, 50.0)}


async def test_hold_leaves_an_expired_allocation_in_force_and_puts_nothing_back(world, allocation):
    async with world(blind_policy="hold") as it:
        it.reconciler.accept(allocation(valid_s=60.0))
        await it.reaches((1, "applied"), (1, "verified"))
        assert it.metric("blind", slice="1") == 0.0
        it.wait(61)
        assert it.metric("blind", slice="1") == 1.0
        await it.settles()
        it.shelf.values["1.gnb_cpu"] = 700.0
        await it.settles(100)
        assert it.shelf.values == {"1.gnb_cpu": 700.0}
        it.reconciler.accept(allocation(2, valid_s=3600.0))
        await it.reaches((1, "applied"), (1, "verified"), (2, "applied"), (2, "verified"))
        assert it.metric("blind", slice="1") == 0.0


@pytest.mark.parametrize(
    ("policy", "expected"), [("peak", {CPU: 4000.0, BANDWIDTH: 20.0}), ("max", {CPU: 4000.0, BANDWIDTH: 30.0})]
)
async def test_peak_and_max_rule_once_an_allocation_has_expired(world, allocation, policy, expected):
    made_at = NOW - timedelta(minutes=1)
    async with world(blind_policy=policy, peak_allocation=PEAK) as it:
        it.reconciler.accept(allocation(3, {CPU: 2000.0, BANDWIDTH: 30.0}, valid_s=60.0, forecast_made_at=made_at))
        await it.reaches((3, "applied"), (3, "verified"))
        it.wait(60)
        await it.reaches((3, "applied"), (3, "verified"), (3, "applied"), (3, "verified"))
        assert it.shelf.values == {f"1.{name}": value for name, value in expected.items()}
        assert [r.forecast_made_at for r in it.reports if r.requested == 4000.0] == [None, None]
        it.reconciler.accept(allocation(4, {CPU: 2500.0, BANDWIDTH: 5.0}))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 2500.0, "1.transport_bandwidth": 5.0})


async def test_a_peak_outside_the_bounds_is_brought_within(world, allocation):
    peak = {CPU: 9000.0, BANDWIDTH: 0.5}
    async with world(blind_policy="peak", peak_allocation=peak) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 30.0}, valid_s=-1.0))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 4500.0, "1.transport_bandwidth": 1.0})


async def test_an_allocation_that_has_expired_before_it_came_changes_nothing_under_hold(
    world, allocation, make_shelf
):
    async with world(make_shelf({"1.gnb_cpu": 700.0}), blind_policy="hold") as it:
        it.reconciler.accept(allocation(valid_s=-1.0))
        await it.settles()
        assert it.metric("blind", slice="1") == 1.0
    assert it.shelf.writes == it.reports == []


async def test_a_change_of_the_blind_policy_rules_at_once(world, allocation, spec):
    async with world() as it:
        it.reconciler.accept(allocation(valid_s=-1.0))
        it.reconciler.set_spec("1", spec(blind_policy="peak", peak_allocation=PEAK))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 4000.0, "1.transport_bandwidth": 20.0})


async def test_the_same_epoch_made_valid_for_longer_ends_blindness(world, allocation):
    async with world(blind_policy="peak", peak_allocation=PEAK) as it:
        it.reconciler.accept(allocation(valid_s=-1.0))
        await eventually(lambda: it.shelf.values.get("1.gnb_cpu") == 4000.0)
        it.reconciler.accept(allocation(valid_s=60.0))
        await eventually(lambda: it.shelf.values["1.gnb_cpu"] == 2000.0)
        assert it.metric("blind", slice="1") == 0.0


async def test_a_slice_whose_spec_is_gone_is_left_as_it_is(world, allocation):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.reconciler.set_spec("1", None)
        await it.settles()
        it.shelf.values["1.gnb_cpu"] = 700.0
        await it.settles(100)
    assert it.shelf.values == {"1.gnb_cpu": 700.0}


async def test_a_valid_allocation_is_brought_within_bounds_that_have_changed_and_back(world, allocation, spec):
    async with world() as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 20.0}))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 2000.0, "1.transport_bandwidth": 20.0})
        it.reconciler.set_spec("1", spec(bounds=NARROW))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 1500.0, "1.transport_bandwidth": 25.0})
        it.reconciler.set_spec("1", spec())
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 2000.0, "1.transport_bandwidth": 20.0})


async def test_a_resource_that_has_no_bounds_any_more_is_left_alone(world, allocation, spec):
    async with world() as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 20.0}))
        await it.reaches((1, "applied"), (1, "verified"))
        await it.reaches((1, "applied"), (1, "verified"), resource=BANDWIDTH)
        it.reconciler.set_spec("1", spec(bounds={BANDWIDTH: Bounds(1.0, 50.0)}))
        await it.settles()
        it.shelf.values = {"1.gnb_cpu": 700.0, "1.transport_bandwidth": 7.0}
        await eventually(lambda: it.shelf.values["1.transport_bandwidth"] == 20.0)
        await it.settles()
    assert it.shelf.values["1.gnb_cpu"] == 700.0


@pytest.mark.parametrize(
    ("policy", "expected"), [("hold", (1500.0, 25.0)), ("peak", (1500.0, 25.0)), ("max", (1500.0, 30.0))]
)
async def test_every_blind_policy_keeps_within_bounds_that_have_changed(world, allocation, spec, policy, expected):
    bandwidth = 20.0 if policy == "hold" else 30.0
    async with world(blind_policy=policy, peak_allocation=PEAK) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: bandwidth}, valid_s=-1.0))
        it.reconciler.set_spec("1", spec(bounds=NARROW, blind_policy=policy, peak_allocation=PEAK))
        await eventually(lambda: tuple(v for _, v in sorted(it.shelf.values.items())) == expected)


async def test_what_was_accepted_before_a_restart_is_taken_also_outside_the_bounds_of_today(world, allocation):
    kept = allocation(1, {CPU: 2000.0, BANDWIDTH: 30.0})
    async with world(bounds=NARROW, blind_policy="max", peak_allocation={CPU: 200.0, BANDWIDTH: 26.0}) as it:
        it.reconciler.restore("1", [kept])
        it.reconciler.accept(kept)
        with pytest.raises(PermanentError, match="above the ceiling 1500"):
            it.reconciler.accept(allocation(2, {CPU: 1600.0}))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 1500.0, "1.transport_bandwidth": 30.0})
        it.wait(3600)
        assert it.metric("blind", slice="1") == 1.0
    assert [r.epoch for r in it.reports if r.state == "refused"] == [2]


async def test_a_slice_that_never_had_an_allocation_is_left_as_it_is_whatever_its_blind_policy(world, make_shelf):
    async with world(make_shelf({"1.gnb_cpu": 700.0}), blind_policy="peak", peak_allocation=PEAK) as it:
        it.wait(86_400)
        await it.settles()
    assert it.shelf.writes == it.reports == []


async def test_a_removed_slice_that_keeps_its_resources_is_named_once_with_their_values(world, allocation, spec):
    async with world(specs=("1", "2")) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 20.0}))
        it.reconciler.set_spec("1", spec(bounds=NARROW))
        with structlog.testing.capture_logs() as lines:
            for name in ("1", "1", "2"):
                it.reconciler.set_spec(name, None)
    (warned,) = [line for line in lines if line["event"] == "slice_removed_but_held"]
    assert (warned["slice"], warned["log_level"]) == ("1", "warning")
    assert warned["values"] == {CPU: 1500.0, BANDWIDTH: 25.0}
