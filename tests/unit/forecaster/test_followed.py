from datetime import timedelta

import msgspec
import numpy as np
import pytest

from microopt.errors import ConfigError
from microopt_forecaster.followed import FollowedSlice, candidate_names
from microopt_forecaster.settings import ForecasterSettings

SETTINGS = ForecasterSettings(models=("seasonal-naive", "ridge"))


@pytest.fixture
def spec(make_slice):
    return make_slice(slot_s=1.0, interval_s=12.0, season_s=60.0, lead_s=2.0)


@pytest.fixture
def followed(spec):
    return FollowedSlice(spec, SETTINGS)


@pytest.fixture
def follow(followed, telemetry):
    """Let slots pass, with the users that `users(n)` says."""

    def go(count, users, begin=0):
        for n in range(begin, begin + count):
            followed.note(telemetry(n, users=users(n)), n + 1)
        return followed

    return go


def number(followed, telemetry, slot):
    return followed.schedule.number(telemetry(slot).time.timestamp())


def test_a_slot_that_is_in_the_history_already_is_not_taken_again(followed, telemetry):
    followed.note(telemetry(0, users=4.0), 7)
    followed.note(telemetry(0, users=9.0), 7)
    assert followed.history.steps().means.values.tolist() == [4.0]


def test_the_last_forecast_is_not_made_again(followed, make_forecast, telemetry):
    start = followed.schedule.start(number(followed, telemetry, 0))
    now_s = start.timestamp() + 3
    assert len(followed.schedule.due(now_s)) == 1
    followed.resume_after(make_forecast(start=start, duration_s=12.0))
    assert len(followed.schedule.due(now_s)) == 0


def test_a_last_forecast_of_another_interval_length_says_nothing(followed, make_forecast, telemetry):
    start = followed.schedule.start(number(followed, telemetry, 0))
    followed.resume_after(make_forecast(start=start, duration_s=20.0))
    assert len(followed.schedule.due(start.timestamp() + 3)) == 1


@pytest.mark.parametrize("changes", [{"season_s": 36.0}, {"interval_s": 6.0}, {"slot_s": 0.5}, {"lead_s": 1.0}])
def test_a_changed_spec_keeps_what_is_known(follow, spec, changes):
    followed = follow(240, lambda n: 2.0 + n % 60 // 30)
    followed.change(msgspec.structs.replace(spec, **changes))
    steps = followed.history.steps()
    assert len(steps.means.known) * followed.grid.step_us == 240_000_000
    assert np.nanmean(steps.means.values) == pytest.approx(2.5)


def test_a_change_that_concerns_no_forecast_keeps_what_was_learned(follow, spec, telemetry):
    followed = follow(240, lambda n: 2.0)
    followed.expect(number(followed, telemetry, 240), followed.snapshot())
    learned = followed.outlook
    followed.change(msgspec.structs.replace(spec, priority=5))
    assert followed.outlook is learned
    followed.change(msgspec.structs.replace(spec, forecast_model="ridge"))
    assert followed.outlook is not learned


def test_a_forecast_waits_for_what_it_rests_on_but_not_for_ever(followed, telemetry):
    interval = number(followed, telemetry, 24)
    start_s = interval * 12.0
    due_s = start_s - 2.0
    followed.note(telemetry(18, users=None, qos=None, quality="missing"), 1)  # 2 s of lead and 2 slots before it
    assert not followed.is_fresh(interval, due_s)
    assert followed.is_fresh(interval, start_s - 1.0)
    followed.note(telemetry(19), 2)
    assert followed.is_fresh(interval, due_s)


def test_more_traffic_than_was_allowed_for_raises_the_next_forecast(follow, telemetry):
    followed = follow(600, lambda n: 3.0 + 0.1 * (n % 7))
    follow(10, lambda n: 30.0, begin=600)
    found = followed.expect(number(followed, telemetry, 612), followed.snapshot())
    assert found.raised_from == pytest.approx(found.prediction.traffic().mean)
    assert found.raised_from < found.traffic.mean <= 30.0 + 1e-9


def test_a_forecast_is_raised_in_proportion_where_traffic_is_expected_to_fall(follow, telemetry):
    def two_levels(n):
        return (12.0 if n % 60 // 12 < 3 else 3.0) + 0.1 * (n % 7)  # three busy intervals, two quiet ones

    followed = follow(1200 + 24, two_levels)
    follow(10, lambda n: 2.0 * two_levels(n), begin=1200 + 24)  # the last busy one, twice as busy
    found = followed.expect(number(followed, telemetry, 1200 + 36), followed.snapshot())
    assert found.raised_from == pytest.approx(3.3, abs=1.5)
    assert found.traffic.mean == pytest.approx(2.0 * found.raised_from, rel=0.4)


def test_traffic_as_it_was_expected_raises_nothing(follow, telemetry):
    followed = follow(610, lambda n: 3.0 + 0.1 * (n % 7))
    found = followed.expect(number(followed, telemetry, 612), followed.snapshot())
    assert found.raised_from is None
    assert found.traffic.mean == pytest.approx(3.3, abs=0.1)


def test_an_unknown_interval_has_no_forecast(followed, telemetry):
    assert followed.expect(number(followed, telemetry, 0), followed.snapshot()) is None


def test_a_slice_that_names_a_model_gets_it_with_the_naive_one_to_begin_with():
    assert candidate_names("ridge", ("ces",)) == (("seasonal-naive", "ridge"), 1)
    assert candidate_names("seasonal-naive", ("ces",)) == (("seasonal-naive",), 0)
    assert candidate_names("auto", ("ces",)) == (("ces",), None)
    with pytest.raises(ConfigError, match="forecast_model 'x': known are auto, seasonal-naive"):
        candidate_names("x", ())


def test_telemetry_of_another_slot_length_is_of_a_former_spec(followed, telemetry):
    followed.note(telemetry(0, slot_s=0.5), 1)
    assert followed.history.newest is None


def test_forecasts_follow_a_new_interval_length(follow, spec, telemetry):
    followed = follow(600, lambda n: 5.0)
    followed.expect(number(followed, telemetry, 612), followed.snapshot())
    followed.change(msgspec.structs.replace(spec, interval_s=6.0))
    start = followed.schedule.start(number(followed, telemetry, 606))
    assert start == telemetry(606).time
    found = followed.expect(number(followed, telemetry, 606), followed.snapshot())
    assert found.traffic.mean == pytest.approx(5.0, abs=0.05)
    assert followed.schedule.start(1) - followed.schedule.start(0) == timedelta(seconds=6)
