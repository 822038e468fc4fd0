"""The reconciler with a driver that can be away, stuck or slow, and a clock that the test turns."""

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from prometheus_client import CollectorRegistry

from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Allocation, Interval
from microopt.specs import Bounds, Sla, SliceSpec
from microopt.testing import eventually
from microopt_actuator import reconciler, worker
from microopt_actuator.bindings import Binding, Bindings
from microopt_actuator.drivers.base import Driver, Write
from microopt_actuator.drivers.record import RecordDriver
from microopt_actuator.metrics import ActuatorMetrics
from microopt_actuator.reconciler import Reconciler, utc_now

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"
PEAK = {CPU: 4000.0, BANDWIDTH: 20.0}


class Shelf:
    """A driver over a dict, which can be away, refuse, keep what it has, or never answer."""

    name = "shelf"
    unit = None

    def __init__(self, values=None):
        self.values = dict(values or {})
        self.writes = []
        self.away, self.refusing, self.stuck, self.hanging, self.broken = set(), set(), set(), set(), set()

    async def plan(self, target, value):
        return Write(target, value, holds=value, tolerance=0.5, steps=(f"{target} = {value:g}",))

    async def apply(self, write):
        target, value = write.target, write.value
        await self._pass(target)
        self.writes.append((target, value))
        if target in self.refusing:
            raise PermanentError(f"{target} refuses {value:g}")
        if target not in self.stuck:
            self.values[target] = value

    async def read(self, target):
        await self._pass(target)
        return self.values.get(target)

    async def _pass(self, target):
        if target in self.away:
            raise TemporaryError(f"{target} is away")
        if target in self.broken:
            raise KeyError(target)
        if target in self.hanging:
            await asyncio.Event().wait()


class World:
    """A reconciler, and everything around it that a test looks at."""

    def __init__(self, bindings, shelf, check_every_s, clock=None):
        self.shelf = shelf
        self.now = NOW
        self.reports = []
        self.registry = CollectorRegistry()
        drivers: dict[str, Driver] = {"shelf": shelf, "record": RecordDriver()}
        self.reconciler = Reconciler(
            Bindings(bindings, drivers),
            drivers,
            report=self.reports.append,
            metrics=ActuatorMetrics(self.registry),
            check_every_s=check_every_s,
            clock=clock or (lambda: self.now),
        )

    def states(self, resource=CPU, slice_="1"):
        return [(r.epoch, r.state) for r in self.reports if (r.slice, r.resource) == (slice_, resource)]

    def metric(self, name, **labels):
        return self.registry.get_sample_value(f"microopt_actuator_{name}", labels) or 0.0

    async def reaches(self, *states, resource=CPU, slice_="1"):
        await eventually(lambda: self.states(resource, slice_) == list(states), what=str(states))

    def wait(self, seconds):
        """Turn the clock, and let the reconciler see it."""
        self.now += timedelta(seconds=seconds)
        self.reconciler.follow_due()

    async def settles(self, turns=50):
        """Let every task that can go on do so."""
        for _ in range(turns):
            await asyncio.sleep(0.001)


@asynccontextmanager
async def world(shelf=None, *, bindings=None, check_every_s=0.02, specs=("1",), clock=None, **spec_changes):
    bindings = bindings or [Binding(slice="*", resource="*", driver="shelf", target="{slice}.{resource}")]
    it = World(bindings, Shelf() if shelf is None else shelf, check_every_s, clock)
    for name in specs:
        it.reconciler.set_spec(name, spec(name, **spec_changes))
    running = asyncio.create_task(it.reconciler.run())
    try:
        yield it
    finally:
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()


def spec(name="1", **changes):
    fields = {
        "pool": "edge",
        "sla": Sla(qos_threshold=4.0, degradation_threshold=0.1),
        "bounds": {CPU: Bounds(100.0, 4500.0), BANDWIDTH: Bounds(1.0, 50.0)},
        "model": "embb",
    }
    return SliceSpec(slice=name, **{**fields, **changes})


def allocation(epoch=1, values=None, slice_="1", *, valid_s=3600.0, **changes):
    fields = {
        "pool": "edge",
        "interval": Interval(NOW, 3600.0),
        "values": {CPU: 2000.0} if values is None else values,
        "valid_until": NOW + timedelta(seconds=valid_s),
        "optimizer": "microopt",
        "status": "optimal",
    }
    return Allocation(slice=slice_, epoch=epoch, **{**fields, **changes})


async def test_a_value_is_applied_then_verified_by_reading_it_back():
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


async def test_a_value_that_is_in_force_already_is_verified_without_a_write():
    async with world(Shelf({"1.gnb_cpu": 2000.4})) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "verified"))
        await it.settles()
    assert it.shelf.writes == []
    assert it.reports[0].observed == 2000.4


async def test_the_same_allocation_again_writes_and_reports_nothing():
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.reconciler.accept(allocation())
        it.reconciler.accept(allocation(valid_s=7200.0))
        await it.settles()
        assert len(it.reports) == 2
    assert it.shelf.writes == [("1.gnb_cpu", 2000.0)]


async def test_a_lower_epoch_is_refused_and_reported_so():
    async with world() as it:
        it.reconciler.accept(allocation(5))
        await it.reaches((5, "applied"), (5, "verified"))
        with pytest.raises(PermanentError, match="epoch 4 is lower than 5"):
            it.reconciler.accept(allocation(4, {CPU: 300.0}))
        await it.settles()
    assert it.shelf.values == {"1.gnb_cpu": 2000.0}
    assert it.states()[2:] == [(4, "refused")]
    assert "lower than 5" in it.reports[-1].error


async def test_the_same_epoch_with_other_values_is_refused():
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
async def test_one_value_out_of_bounds_refuses_the_whole_allocation(values, error):
    async with world() as it:
        with pytest.raises(PermanentError, match=error):
            it.reconciler.accept(allocation(1, values))
        await it.settles()
        assert {(r.resource, r.state) for r in it.reports} == {(name, "refused") for name in values}
        assert all(re.search(error, r.error) for r in it.reports)
        it.reconciler.accept(allocation(1))
        await eventually(lambda: it.shelf.writes == [("1.gnb_cpu", 2000.0)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_what_is_no_number_is_refused(value):
    async with world() as it:
        with pytest.raises(PermanentError, match=r"gnb_cpu (nan|inf) is not a number"):
            it.reconciler.accept(allocation(1, {CPU: value, BANDWIDTH: 10.0}))
        await it.settles()
    assert [r.resource for r in it.reports] == [BANDWIDTH]
    assert it.shelf.writes == []


async def test_without_a_spec_there_are_no_bounds_so_the_allocation_has_to_wait():
    async with world(specs=()) as it:
        with pytest.raises(TemporaryError, match="bucket slices"):
            it.reconciler.accept(allocation())
        it.reconciler.set_spec("1", spec())
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))


async def test_resources_without_a_binding_are_left_to_others():
    only_cpu = [Binding(slice="1", resource=CPU, driver="shelf", target="pod")]
    async with world(bindings=only_cpu) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 10.0}))
        it.reconciler.accept(allocation(1, {BANDWIDTH: 10.0}, "2"))
        await it.reaches((1, "applied"), (1, "verified"))
        await it.settles()
    assert it.shelf.values == {"pod": 2000.0}
    assert it.states(BANDWIDTH) == it.states(BANDWIDTH, "2") == []


async def test_a_driver_that_is_away_is_tried_until_it_is_back():
    shelf = Shelf()
    shelf.away.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await eventually(lambda: it.metric("writes_total", driver="shelf", outcome="temporary") == 2.0)
        assert it.states() == [(1, "failed")]
        assert it.reports[0].error == "1.gnb_cpu is away"
        shelf.away.clear()
        await it.reaches((1, "failed"), (1, "applied"), (1, "verified"))


async def test_only_the_newest_of_many_allocations_is_written_once_a_driver_is_back():
    shelf = Shelf()
    shelf.away.add("1.gnb_cpu")
    async with world(shelf) as it:
        for epoch in range(1, 6):
            it.reconciler.accept(allocation(epoch, {CPU: 1000.0 + epoch}))
            await it.settles(5)
        shelf.away.clear()
        await eventually(lambda: (5, "verified") in it.states())
    assert shelf.writes == [("1.gnb_cpu", 1005.0)]


@pytest.mark.parametrize("trouble", ["away", "refusing", "stuck", "hanging", "broken"])
async def test_one_resource_in_trouble_holds_up_no_other(trouble):
    shelf = Shelf()
    getattr(shelf, trouble).add("1.gnb_cpu")
    async with world(shelf, specs=("1", "2")) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 10.0}))
        it.reconciler.accept(allocation(1, {CPU: 2000.0}, "2"))
        await it.reaches((1, "applied"), (1, "verified"), resource=BANDWIDTH)
        await it.reaches((1, "applied"), (1, "verified"), slice_="2")
        assert "verified" not in [state for _, state in it.states()]


async def test_a_driver_that_never_answers_counts_as_away(monkeypatch):
    monkeypatch.setattr(worker, "ATTEMPT_S", 0.05)
    shelf = Shelf()
    shelf.hanging.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "failed"))
        assert "no answer within 0.05 s" in it.reports[0].error
        shelf.hanging.clear()
        await it.reaches((1, "failed"), (1, "applied"), (1, "verified"))


async def test_a_mistake_in_a_driver_is_reported_and_tried_again():
    shelf = Shelf()
    shelf.broken.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "failed"))
        assert "KeyError" in it.reports[0].error
        assert it.metric("writes_total", driver="shelf", outcome="crashed") >= 1.0
        shelf.broken.clear()
        await it.reaches((1, "failed"), (1, "applied"), (1, "verified"))


async def test_a_value_that_does_not_stay_is_reported_with_what_was_observed_and_only_once():
    shelf = Shelf({"1.gnb_cpu": 500.0})
    shelf.stuck.add("1.gnb_cpu")
    async with world(shelf) as it:
        it.reconciler.accept(allocation())
        await eventually(lambda: it.metric("writes_total", driver="shelf", outcome="differs") >= 3.0)
        assert it.states() == [(1, "applied"), (1, "failed")]
        assert it.reports[-1].observed == 500.0
        assert it.reports[-1].error == "1.gnb_cpu: requested 2000, observed 500"
        shelf.stuck.clear()
        await it.reaches((1, "applied"), (1, "failed"), (1, "verified"))


async def test_a_driver_that_refuses_is_reported_with_its_reason_and_a_new_epoch_is_tried_at_once():
    shelf = Shelf()
    shelf.refusing.add("1.gnb_cpu")
    async with world(shelf, check_every_s=60.0) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "failed"))
        assert it.reports[0].error == "1.gnb_cpu refuses 2000"
        shelf.refusing.clear()
        it.reconciler.accept(allocation(2))
        await it.reaches((1, "failed"), (2, "applied"), (2, "verified"))


async def test_what_somebody_else_has_changed_is_put_back_and_counted():
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.shelf.values["1.gnb_cpu"] = 4500.0
        await it.reaches((1, "applied"), (1, "verified"), (1, "applied"), (1, "verified"))
    assert it.shelf.values == {"1.gnb_cpu": 2000.0}
    assert it.metric("drift_total", slice="1", resource=CPU) == 1.0


async def test_a_verified_value_that_cannot_be_read_for_a_while_is_not_called_failed():
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.shelf.away.add("1.gnb_cpu")
        await eventually(lambda: it.metric("writes_total", driver="shelf", outcome="temporary"))
        it.shelf.away.clear()
        await it.settles(200)
    assert it.states() == [(1, "applied"), (1, "verified")]
    assert it.metric("drift_total", slice="1", resource=CPU) == 0.0


async def test_hold_leaves_an_expired_allocation_in_force_and_puts_nothing_back():
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
async def test_peak_and_max_rule_once_an_allocation_has_expired(policy, expected):
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


async def test_a_peak_outside_the_bounds_is_brought_within():
    peak = {CPU: 9000.0, BANDWIDTH: 0.5}
    async with world(blind_policy="peak", peak_allocation=peak) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 30.0}, valid_s=-1.0))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 4500.0, "1.transport_bandwidth": 1.0})


async def test_an_allocation_that_has_expired_before_it_came_changes_nothing_under_hold():
    async with world(Shelf({"1.gnb_cpu": 700.0}), blind_policy="hold") as it:
        it.reconciler.accept(allocation(valid_s=-1.0))
        await it.settles()
        assert it.metric("blind", slice="1") == 1.0
    assert it.shelf.writes == it.reports == []


async def test_a_change_of_the_blind_policy_rules_at_once():
    async with world() as it:
        it.reconciler.accept(allocation(valid_s=-1.0))
        it.reconciler.set_spec("1", spec(blind_policy="peak", peak_allocation=PEAK))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 4000.0, "1.transport_bandwidth": 20.0})


async def test_the_same_epoch_made_valid_for_longer_ends_blindness():
    async with world(blind_policy="peak", peak_allocation=PEAK) as it:
        it.reconciler.accept(allocation(valid_s=-1.0))
        await eventually(lambda: it.shelf.values.get("1.gnb_cpu") == 4000.0)
        it.reconciler.accept(allocation(valid_s=60.0))
        await eventually(lambda: it.shelf.values["1.gnb_cpu"] == 2000.0)
        assert it.metric("blind", slice="1") == 0.0


async def test_a_slice_whose_spec_is_gone_is_left_as_it_is():
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.reconciler.set_spec("1", None)
        await it.settles()
        it.shelf.values["1.gnb_cpu"] = 700.0
        await it.settles(100)
    assert it.shelf.values == {"1.gnb_cpu": 700.0}


async def test_a_dry_run_reads_back_what_it_would_have_set():
    dry = [Binding(slice="*", resource=CPU, driver="record", target="{slice}")]
    async with world(bindings=dry) as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
    assert it.reports[-1].driver == "record"


# --- allocations whose interval has yet to begin ----------------------------------------------------------------


def upcoming(epoch, values=None, slice_="1", *, in_s=60.0, valid_s=3600.0, **changes):
    start = NOW + timedelta(seconds=in_s)
    return allocation(epoch, values, slice_, interval=Interval(start, 3600.0), valid_s=in_s + valid_s, **changes)


async def test_an_allocation_takes_effect_at_its_start_and_until_then_the_former_is_held():
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


async def test_all_that_is_due_at_one_instant_is_asked_for_at_that_instant():
    shelf = Shelf()
    async with world(shelf, specs=("1", "2")) as it:
        for name in ("1", "2"):
            it.reconciler.accept(upcoming(1, {CPU: 3000.0, BANDWIDTH: 30.0}, name))
        await it.settles()
        assert shelf.writes == it.reports == []
        it.wait(60)
        await eventually(lambda: len(shelf.values) == 4)
    assert sorted(shelf.writes) == sorted(shelf.values.items())


async def test_until_the_start_the_blind_policy_of_the_former_allocation_rules():
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


async def test_a_newer_allocation_replaces_the_one_that_waits():
    async with world() as it:
        it.reconciler.accept(upcoming(1, {CPU: 1000.0}))
        it.reconciler.accept(upcoming(2, {CPU: 3000.0}))
        it.wait(60)
        await it.reaches((2, "applied"), (2, "verified"))
    assert it.shelf.writes == [("1.gnb_cpu", 3000.0)]


async def test_an_allocation_that_waits_and_is_due_is_not_replaced_by_the_next_that_waits():
    async with world() as it:
        it.reconciler.accept(upcoming(1, {CPU: 1000.0}))
        it.now += timedelta(seconds=60)  # nobody has looked at the clock yet
        it.reconciler.accept(upcoming(2, {CPU: 3000.0}, in_s=120.0))
        await it.reaches((1, "applied"), (1, "verified"))
        it.wait(60)
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 3000.0})


async def test_epochs_are_compared_with_the_one_that_waits():
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


async def test_the_clock_is_followed_to_the_nearest_start_and_expiry(monkeypatch):
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


async def test_after_a_restart_what_rules_is_held_and_what_waits_still_waits():
    kept = [allocation(5), upcoming(6, {CPU: 3000.0})]
    async with world() as it:
        it.reconciler.restore("1", kept)
        it.reconciler.accept(kept[1])
        await it.reaches((5, "applied"), (5, "verified"))
        await it.settles()
        it.wait(60)
        await it.reaches((5, "applied"), (5, "verified"), (6, "applied"), (6, "verified"))
    assert it.shelf.writes == [("1.gnb_cpu", 2000.0), ("1.gnb_cpu", 3000.0)]


# --- bounds that change, and slices that are removed ------------------------------------------------------------

NARROW = {CPU: Bounds(100.0, 1500.0), BANDWIDTH: Bounds(25.0, 50.0)}


async def test_a_valid_allocation_is_brought_within_bounds_that_have_changed_and_back():
    async with world() as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 20.0}))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 2000.0, "1.transport_bandwidth": 20.0})
        it.reconciler.set_spec("1", spec(bounds=NARROW))
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 1500.0, "1.transport_bandwidth": 25.0})
        it.reconciler.set_spec("1", spec())
        await eventually(lambda: it.shelf.values == {"1.gnb_cpu": 2000.0, "1.transport_bandwidth": 20.0})


async def test_a_resource_that_has_no_bounds_any_more_is_left_alone():
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
async def test_every_blind_policy_keeps_within_bounds_that_have_changed(policy, expected):
    bandwidth = 20.0 if policy == "hold" else 30.0
    async with world(blind_policy=policy, peak_allocation=PEAK) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: bandwidth}, valid_s=-1.0))
        it.reconciler.set_spec("1", spec(bounds=NARROW, blind_policy=policy, peak_allocation=PEAK))
        await eventually(lambda: tuple(v for _, v in sorted(it.shelf.values.items())) == expected)


async def test_what_was_accepted_before_a_restart_is_taken_also_outside_the_bounds_of_today():
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


async def test_a_slice_that_never_had_an_allocation_is_left_as_it_is_whatever_its_blind_policy():
    async with world(Shelf({"1.gnb_cpu": 700.0}), blind_policy="peak", peak_allocation=PEAK) as it:
        it.wait(86_400)
        await it.settles()
    assert it.shelf.writes == it.reports == []


async def test_a_removed_slice_that_keeps_its_resources_is_named_once_with_their_values():
    async with world(specs=("1", "2")) as it:
        it.reconciler.accept(allocation(1, {CPU: 2000.0, BANDWIDTH: 20.0}))
        it.reconciler.set_spec("1", spec(bounds=NARROW))
        with structlog.testing.capture_logs() as lines:
            for name in ("1", "1", "2"):
                it.reconciler.set_spec(name, None)
    (warned,) = [line for line in lines if line["event"] == "slice_removed_but_held"]
    assert (warned["slice"], warned["log_level"]) == ("1", "warning")
    assert warned["values"] == {CPU: 1500.0, BANDWIDTH: 25.0}
