from datetime import timedelta

import msgspec
import pytest

from microopt_forecaster.followed import FollowedSlice
from microopt_forecaster.models.seasonal_naive import SeasonalNaive


@pytest.fixture
def spec(make_slice):
    return make_slice(slot_s=1.0, interval_s=10.0, season_s=60.0)


@pytest.fixture
def followed(spec):
    return FollowedSlice(spec, SeasonalNaive(spec.season_s), horizon_seasons=3)


def test_a_slice_is_not_read_before_the_bus_was_asked(followed, telemetry):
    followed.note(telemetry(5))
    assert not followed.is_read


def test_a_slice_is_read_when_its_last_telemetry_was_handled(followed, telemetry):
    followed.prepare(telemetry(2).time, None)
    for n in range(2):
        followed.note(telemetry(n))
        assert not followed.is_read
    followed.note(telemetry(2, users=None, qos=None, quality="missing"))
    assert followed.is_read


def test_a_slice_without_telemetry_is_read_at_once(followed):
    followed.prepare(None, None)
    assert followed.is_read


def test_the_last_forecast_is_not_made_again(followed, make_forecast, telemetry):
    start = followed.schedule.start(followed.schedule.number(telemetry(0).time.timestamp()))
    now_s = start.timestamp() + 3
    assert len(followed.schedule.due(now_s)) == 1
    followed.prepare(None, make_forecast(start=start, duration_s=10.0))
    assert len(followed.schedule.due(now_s)) == 0


def test_a_last_forecast_of_another_interval_length_says_nothing(followed, make_forecast, telemetry):
    start = followed.schedule.start(followed.schedule.number(telemetry(0).time.timestamp()))
    followed.prepare(None, make_forecast(start=start, duration_s=20.0))
    assert len(followed.schedule.due(start.timestamp() + 3)) == 1


@pytest.mark.parametrize(
    ("changes", "kept"), [({"season_s": 30.0}, 30), ({"interval_s": 5.0}, 30), ({"slot_s": 0.5}, 0)]
)
def test_a_changed_spec_keeps_what_is_known_unless_the_slots_are_others(followed, spec, telemetry, changes, kept):
    for n in range(30):
        followed.note(telemetry(n))
    followed.change(msgspec.structs.replace(spec, **changes), followed.model, 3)
    assert len(followed.history) == kept


def test_telemetry_of_other_slots_is_left_out(followed, telemetry):
    followed.note(telemetry(0, slot_s=60.0))
    assert len(followed.history) == 0


def test_a_changed_lead_does_not_repeat_forecasts(followed, spec, telemetry):
    number = followed.schedule.number(telemetry(0).time.timestamp())
    followed.schedule.done(number)
    followed.prepare(None, None)
    followed.change(msgspec.structs.replace(spec, lead_s=3.0), followed.model, 3)
    assert followed.prepared
    assert len(followed.schedule.due(telemetry(0).time.timestamp() + timedelta(seconds=5).total_seconds())) == 0
