from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from microopt.messages import SliceSolution
from microopt.specs import Route
from microopt_optimizer.router.holding import not_to_shrink, raised, untouched
from microopt_optimizer.router.problem import problem

START = datetime(2026, 1, 1, tzinfo=UTC)
ROUTE = Route(pool="edge", active="one")


def held(forecast, spec, route=ROUTE, after_s=1.0):
    now = START + timedelta(seconds=after_s)
    return not_to_shrink(route, {"1": forecast}, {"1": spec}, now, 2.0, 10.0).get("1", "")


def test_frozen_and_recommended_slices_are_not_touched_and_a_slices_own_mode_wins(make_forecast):
    forecasts = {name: make_forecast(name) for name in ("1", "2", "3")}
    route = Route(pool="edge", active="one", mode="frozen", modes={"2": "recommend", "3": "apply"})
    assert untouched(route, forecasts) == {"1": "frozen", "2": "recommend"}
    assert untouched(ROUTE, forecasts) == {}


def test_a_mode_that_lets_a_slice_grow_only_is_said(make_forecast, make_slice):
    route = replace(ROUTE, modes={"1": "no-shrink"})
    assert held(make_forecast("1", start=START), make_slice("1"), route) == "the route's mode lets it grow only"


@pytest.mark.parametrize(("after_s", "said"), [(3.9, ""), (4.1, "its forecast is 4 s old")])
def test_a_forecast_of_two_intervals_ago_lets_nothing_shrink(make_forecast, make_slice, after_s, said):
    assert held(make_forecast("1", start=START), make_slice("1"), after_s=after_s) == said


@pytest.mark.parametrize(
    ("unseen_s", "said"), [(0.9, ""), (1.5, "its forecast was made without telemetry of the last 2 s")]
)
def test_a_forecast_without_the_telemetry_of_ten_slots_lets_nothing_shrink(
    make_forecast, make_slice, unseen_s, said
):
    forecast = replace(make_forecast("1", start=START), observed_until=START - timedelta(seconds=unseen_s))
    assert held(forecast, make_slice("1")) == said


def test_a_slice_that_was_removed_meanwhile_is_passed_over(make_forecast):
    assert not_to_shrink(ROUTE, {"1": make_forecast("1", start=START)}, {}, START, 2.0, 10.0) == {}


def test_what_is_held_has_at_least_what_it_has_within_its_ceiling(make_pool, make_slice, make_forecast):
    slices = {name: make_slice(name) for name in ("1", "2")}
    forecasts = {name: make_forecast(name) for name in slices}
    asked = problem(make_pool(), forecasts["1"].interval, forecasts, slices, {}, 1.0, 256, {}, {})
    has = {"transport_bandwidth": 40.0, "gnb_cpu": 9000.0}
    asked = replace(asked, slices=[replace(one, current=has) for one in asked.slices])
    values = {"transport_bandwidth": 45.0, "gnb_cpu": 900.0}
    accepted = {name: SliceSolution(slice=name, allocation=values, status="optimal") for name in slices}
    found = raised(asked, accepted, {"1": "its forecast is 90 s old", "3": "not asked for"})
    assert set(found) == {"1"}
    assert found["1"].before == accepted["1"]
    assert found["1"].answer.allocation == {"transport_bandwidth": 45.0, "gnb_cpu": 4500.0}
    assert found["1"].change == "does not shrink, its forecast is 90 s old: gnb_cpu 4500 instead of 900"
    grown = {name: replace(one, allocation={**values, "gnb_cpu": 4500.0}) for name, one in accepted.items()}
    assert raised(asked, grown, {"1": "old"}) == {}
