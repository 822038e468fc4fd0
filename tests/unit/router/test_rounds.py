from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from microopt.errors import MicrooptError
from microopt.messages import Allocation, Interval
from microopt.specs import Margin
from microopt_optimizer.router.problem import problem, require_room
from microopt_optimizer.router.rounds import Round, is_answered

START = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = Interval(START, 2.0)


@pytest.fixture
def slices(make_slice):
    return {name: make_slice(name) for name in ("1", "2", "3")}


def allocated_(name, start=START, **values):
    return Allocation(
        slice=name,
        pool="edge",
        interval=Interval(start, 2.0),
        epoch=1,
        values={"transport_bandwidth": 10.0, "gnb_cpu": 1000.0, **values},
        valid_until=start + timedelta(seconds=2),
        optimizer="peak",
        status="optimal",
    )


def test_a_round_is_complete_with_every_slice_of_the_pool_and_interval_length(slices, make_slice, make_forecast):
    slices["4"] = make_slice("4", pool="core")
    slices["5"] = make_slice("5", interval_s=600.0)
    current = Round("edge", INTERVAL)
    for name in ("1", "2"):
        current.add(make_forecast(name, start=START))
    assert not current.is_complete(slices)
    current.add(make_forecast("3", start=START))
    assert current.is_complete(slices)


def test_only_slices_without_an_allocation_for_the_interval_are_pending(slices, make_forecast):
    current = Round("edge", INTERVAL)
    for name in ("1", "2", "3", "9"):
        current.add(make_forecast(name, start=START))
    last = {"1": allocated_("1"), "2": allocated_("2", start=START - timedelta(seconds=2)), "3": None}
    assert set(current.pending(slices, last)) == {"2", "3"}


def test_slices_that_are_not_asked_keep_their_share_of_the_capacity(slices, make_pool, make_slice, make_forecast):
    slices["3"] = make_slice("3", peak_allocation={"transport_bandwidth": 30.0, "gnb_cpu": 3000.0})
    asked = {"1": make_forecast("1", start=START)}
    got = problem(
        make_pool(),
        INTERVAL,
        asked,
        slices,
        {"1": allocated_("1"), "2": allocated_("2"), "3": None},
        1.0,
        256,
        {"gnb_cpu": 0.1},
        {"1": Margin(slice="1", degradation_threshold=0.07)},
    )
    assert got.slices[0].sla.degradation_threshold == 0.07
    assert got.resources["transport_bandwidth"].capacity == pytest.approx(100.0 - 10.0 - 30.0)
    assert got.resources["gnb_cpu"].capacity == pytest.approx(9000.0 - 1000.0 - 3000.0)
    assert [s.slice for s in got.slices] == ["1"]
    assert got.slices[0].sla.qos_threshold == pytest.approx(4.4)
    assert got.slices[0].current == {"transport_bandwidth": 10.0, "gnb_cpu": 1000.0}
    assert got.capacity_prices == {"gnb_cpu": 0.1}


@pytest.mark.parametrize(
    ("threshold", "made_for", "asked"),
    [
        (0.12, 0.1, 0.12),  # for the SLA of now, which is 0.1
        (0.12, None, 0.12),  # by an auditor that did not say
        (0.15, 0.3, 0.05),  # for one that was looser, tightened to a half
        (0.4, 0.3, 0.1),  # and relaxed: that was learned of another SLA
        (0.01, 0.05, 0.02),
    ],
)
def test_a_margin_that_was_made_for_another_sla_is_taken_in_proportion_and_relaxes_nothing(
    slices, make_pool, make_forecast, threshold, made_for, asked
):
    margin = Margin(slice="1", degradation_threshold=threshold, sla_threshold=made_for)
    forecasts = {"1": make_forecast("1", start=START)}
    got = problem(make_pool(), INTERVAL, forecasts, slices, {}, 1.0, 256, {}, {"1": margin})
    assert got.slices[0].sla.degradation_threshold == pytest.approx(asked)


def test_capacity_left_is_never_negative(slices, make_pool, make_forecast):
    last = {"2": allocated_("2", transport_bandwidth=99.0), "3": allocated_("3", transport_bandwidth=99.0)}
    got = problem(make_pool(), INTERVAL, {"1": make_forecast("1", start=START)}, slices, last, 1.0, 256, {}, {})
    assert got.resources["transport_bandwidth"].capacity == 0.0


@pytest.mark.parametrize(
    ("start_s", "duration_s", "allocated"),
    [
        (0.0, 2.0, True),  # this interval
        (2.0, 2.0, True),  # the next one: an answer for this one comes too late
        (-2.0, 2.0, False),  # the former one
        (0.0, 1.0, False),  # a shorter interval, from before it was changed
        (-60.0, 120.0, False),  # a longer one, from before it was changed
        (86_400.0, 2.0, False),  # made by a clock that was a day ahead
    ],
)
def test_an_interval_is_answered_by_itself_or_by_its_follower(start_s, duration_s, allocated):
    last = replace(allocated_("1"), interval=Interval(START + timedelta(seconds=start_s), duration_s))
    assert is_answered(last, INTERVAL) is allocated


def test_floors_that_do_not_fit_are_declared_with_what_is_missing(slices, make_pool, make_forecast):
    last = {"2": allocated_("2", transport_bandwidth=97.0), "3": allocated_("3", transport_bandwidth=0.0)}
    asked = {"1": make_forecast("1", start=START)}
    with pytest.raises(MicrooptError, match=r"infeasible: the floors of slices 1 need 5 Mbit/s .* leave 3"):
        require_room(problem(make_pool(), INTERVAL, asked, slices, last, 1.0, 256, {}, {}))
