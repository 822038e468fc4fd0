"""What is accepted and refused, and how a value gets into force."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from microopt.errors import PermanentError, TemporaryError
from microopt.specs import PoolSpec, ResourceSpec
from microopt.testing import eventually
from microopt_actuator.bindings import Binding

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"


async def test_a_value_is_applied_then_verified_by_reading_it_back(world, allocation):
    made_at = NOW - timedelta(minutes=1)
    async with world() as it:
        it.reconciler.accept(allocation(7, forecast_made_at=made_at))
        await it.reaches((7, "applied"), (7, "verified"))
        applied, verified = it.reports
    assert it.shelf.values == {"1.gnb_cpu": 2000.0}
    assert (applied.requested, applied.observed) == (2000.0, None)
    assert (verified.requested, verified.observed, verified.driver) == (2000.0, 2000.0, "shelf")
    assert verified.forecast_made_at == made_at
    assert verified.at == NOW
    assert verified.duration_s >= applied.duration_s >= 0.0
    assert it.metric("writes_total", driver="shelf", outcome="verified") == 1.0
    assert it.metric("apply_duration_seconds_count", driver="shelf") == 1.0


async def test_a_value_that_is_in_force_already_is_verified_without_a_write(world, allocation, make_shelf):
    async with world(make_shelf({"1.gnb_cpu": 2000.4})) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "verified"))
        await it.settles()
    assert it.shelf.writes == []
    assert it.reports[0].observed == 2000.4


async def test_the_same_allocation_again_writes_and_reports_nothing(world, allocation):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.reconciler.accept(allocation())
        it.reconciler.accept(allocation(valid_s=7200.0))
        await it.settles()
        assert len(it.reports) == 2
    assert it.shelf.writes == [("1.gnb_cpu", 2000.0)]


async def test_a_lower_epoch_is_refused_and_reported_so(world, allocation):
    async with world() as it:
        it.reconciler.accept(allocation(5))
        await it.reaches((5, "applied"), (5, "verified"))
        with pytest.raises(PermanentError, match="epoch 4 is lower than 5"):
            it.reconciler.accept(allocation(4, {CPU: 300.0}))
        await it.settles()
    assert it.shelf.values == {"1.gnb_cpu": 2000.0}
    assert it.states()[2:] == [(4, "refused")]
    assert "lower than 5" in it.reports[-1].error


async def test_the_same_epoch_with_other_values_is_refused(world, allocation):
    async with world() as it:
        it.reconciler.accept(allocation(5))
        with pytest.raises(PermanentError, match="epoch 5 has come before with other values"):
            it.reconciler.accept(allocation(5, {CPU: 300.0}))
        await it.reaches((5, "refused"), (5, "applied"), (5, "verified"))
    assert it.shelf.values == {"1.gnb_cpu": 2000.0}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({CPU: 2000.0, BANDWIDTH: 50.1}, "transport_bandwidth 50.1 is above the ceiling 50"),
        ({CPU: 99.0, BANDWIDTH: 10.0}, "gnb_cpu 99 is below the floor 100"),
        (
            {CPU: 2000.0, "prb": 10.0},
            "prb 10: .* no bounds for it, only for gnb_cpu, ",
        ),
    ],
)
async def test_one_value_out_of_bounds_refuses_the_whole_allocation(world, allocation, values, error):
    async with world() as it:
        with pytest.raises(PermanentError, match=error):
            it.reconciler.accept(allocation(1, values))
        await it.settles()
        assert {(r.resource, r.state) for r in it.reports} == {(name, "refused") for name in values}
        assert all(re.search(error, r.error) for r in it.reports)
        it.reconciler.accept(allocation(1))
        await eventually(lambda: it.shelf.writes == [("1.gnb_cpu", 2000.0)])


@pytest.mark.parametrize(("unit", "refused"), [("GHz", True), ("millicores", False)])
async def test_a_resource_counted_in_another_unit_than_its_driver_sets_is_refused(
    world, allocation, make_shelf, unit, refused
):
    shelf = make_shelf()
    shelf.unit = "millicores"
    async with world(shelf) as it:
        resources = {CPU: ResourceSpec(unit=unit, weight=1.0, capacity=9000.0)}
        it.reconciler.set_pool("edge", PoolSpec(pool="edge", resources=resources))
        if refused:
            with pytest.raises(PermanentError, match="counts gnb_cpu in 'GHz', but its driver sets 'millicores'"):
                it.reconciler.accept(allocation())
            assert it.states() == [(1, "refused")]
            it.reconciler.set_pool("edge", None)
            with pytest.raises(TemporaryError, match="bucket pools has no spec of pool edge"):
                it.reconciler.accept(allocation())
        else:
            it.reconciler.accept(allocation())
            await it.reaches((1, "applied"), (1, "verified"))


async def test_what_another_actuator_accepted_in_a_unit_that_is_not_ours_is_not_taken_up_after_a_restart(
    world, allocation, make_shelf
):
    shelf = make_shelf({"1.gnb_cpu": 1500.0})
    shelf.unit = "millicores"
    async with world(shelf) as it:
        with pytest.raises(TemporaryError, match="no spec of pool edge"):
            it.reconciler.restore("1", [allocation()])
        resources = {CPU: ResourceSpec(unit="GHz", weight=1.0, capacity=9000.0)}
        it.reconciler.set_pool("edge", PoolSpec(pool="edge", resources=resources))
        it.reconciler.restore("1", [allocation()])
        with pytest.raises(PermanentError, match="counts gnb_cpu in 'GHz'"):
            it.reconciler.accept(allocation())
        await it.settles()
        assert it.states() == [(1, "refused"), (1, "refused")]
    assert shelf.writes == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_what_is_no_number_is_refused(world, allocation, value):
    async with world() as it:
        with pytest.raises(PermanentError, match=r"gnb_cpu (nan|inf) is not a number"):
            it.reconciler.accept(allocation(1, {CPU: value, BANDWIDTH: 10.0}))
        await it.settles()
    assert [r.resource for r in it.reports] == [BANDWIDTH]
    assert it.shelf.writes == []


async def test_without_a_spec_there_are_no_bounds_so_the_allocation_has_to_wait(world, allocation, spec):
    async with world(specs=()) as it:
        with pytest.raises(TemporaryError, match="bucket slices"):
            it.reconciler.accept(allocation())
        it.reconciler.set_spec("1", spec())
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))


async def test_resources_without_a_binding_are_left_to_others(world, allocation):
    only_cpu = [Binding(slice="1", resource=CPU, driver="shelf", target="pod")]
    async with world(bindings=only_cpu) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 10.0}))
        it.reconciler.accept(allocation(1, {BANDWIDTH: 10.0}, "2"))
        await it.reaches((1, "applied"), (1, "verified"))
        await it.settles()
    assert it.shelf.values == {"pod": 2000.0}
    assert it.states(BANDWIDTH) == it.states(BANDWIDTH, "2") == []


async def test_a_driver_that_refuses_is_reported_with_its_reason_and_a_new_epoch_is_tried_at_once(
    world, allocation, make_shelf
):
    shelf = make_shelf()
    shelf.refusing.add("1.gnb_cpu")
    async with world(shelf, check_every_s=60.0) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "failed"))
        assert it.reports[0].error == "1.gnb_cpu refuses 2000"
        shelf.refusing.clear()
        it.reconciler.accept(allocation(2))
        await it.reaches((1, "failed"), (2, "applied"), (2, "verified"))


async def test_a_dry_run_reads_back_what_it_would_have_set(world, allocation):
    dry = [Binding(slice="*", resource=CPU, driver="record", target="{slice}")]
    async with world(bindings=dry) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
    assert it.reports[-1].driver == "record"
