from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from microopt.specs import Route
from microopt_optimizer.router.holding import not_to_shrink, untouched

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
