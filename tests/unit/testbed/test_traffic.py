import csv

import numpy as np
import pytest

from microopt.errors import ConfigError
from microopt_testbed.traffic import (
    FIRST_MONDAY,
    SQUARES,
    MilanProfile,
    SlotCalendar,
    ar1,
    data_folder,
    draw_users,
    interpolate_week,
    milan_trace,
    trace_path,
    users_per_slot,
)

HOUR_MS = 3_600_000


def write_trace(folder, square, hours, value=lambda hour: 1.0, step_ms=600_000):
    path = trace_path(folder, square)
    path.parent.mkdir(parents=True, exist_ok=True)
    start_ms = int(FIRST_MONDAY.timestamp() * 1000)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["square_id", "time_ms", "internet", "time"])
        for k in range(int(hours * HOUR_MS / step_ms)):
            writer.writerow([square, start_ms + k * step_ms, value(k * step_ms / HOUR_MS), ""])
    return path


def test_a_calendar_covers_its_days_with_slots_of_one_length():
    calendar = SlotCalendar(slots_per_interval=12, intervals_per_day=24, days=2, weekday=1, hour=6.0)
    hours = calendar.hours()
    assert calendar.n_slots == hours.size == 576
    assert calendar.slot_s == 300.0
    assert hours[0] == pytest.approx(24 + 6 + 2.5 / 60)
    assert np.diff(hours) == pytest.approx(5 / 60)


@pytest.mark.parametrize("bad", [{"slots_per_interval": 0}, {"weekday": 7}, {"hour": 24.0}, {"days": 0}])
def test_a_calendar_that_does_not_exist_is_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        SlotCalendar(**({"slots_per_interval": 10} | bad))


@pytest.mark.parametrize("square", SQUARES)
def test_shipped_profiles_are_a_week_with_maximum_one(square):
    profile = MilanProfile.shipped(square)
    assert profile.weekly.shape == (168,)
    assert profile.weekly.max() == 1.0
    assert profile.weekly.min() > 0.0
    assert 0.0 < profile.residual_lag1 < 1.0
    assert 0.0 < profile.residual_std < 0.5


def test_a_square_without_a_profile_is_named():
    with pytest.raises(ConfigError, match="square 1"):
        MilanProfile.shipped(1)


def test_the_week_is_met_in_the_middle_of_its_hours_and_wraps_around():
    weekly = np.arange(168.0)
    assert interpolate_week(weekly, np.array([0.5, 1.0, 167.5, 168.0, 168.5])) == pytest.approx(
        [0.0, 0.5, 167.0, 83.5, 0.0]
    )


def test_noise_has_the_deviation_and_correlation_asked_for():
    noise = ar1(50_000, 0.2, 0.9, np.random.default_rng(1))
    assert noise.std() == pytest.approx(0.2, rel=0.05)
    assert np.corrcoef(noise[:-1], noise[1:])[0, 1] == pytest.approx(0.9, abs=0.01)


def test_the_noise_of_a_profile_does_not_depend_on_the_length_of_a_slot():
    profile = MilanProfile(0, np.ones(168), 0.2, 0.5)
    coarse, fine = SlotCalendar(6, days=300), SlotCalendar(24, days=300)
    for calendar, apart in ((coarse, 1), (fine, 4)):
        level = profile.level(calendar, np.random.default_rng(2))
        assert level.std() == pytest.approx(0.2, rel=0.05)
        assert np.corrcoef(level[:-apart], level[apart:])[0, 1] == pytest.approx(0.5, abs=0.05)


def test_rounding_keeps_the_level_on_average_and_uses_only_its_neighbours():
    users = draw_users(np.full(20_000, 2.3), 5, np.random.default_rng(4))
    assert set(users.tolist()) == {2, 3}
    assert users.mean() == pytest.approx(2.3, abs=0.02)


def test_users_stay_between_nobody_and_the_peak():
    assert draw_users(np.array([0.0, 9.7]), 5, np.random.default_rng(0)).tolist() == [0, 5]


def test_without_a_trace_the_profile_is_used_and_named(tmp_path):
    result = users_per_slot(4159, SlotCalendar(12), data=tmp_path)
    assert result.source == "profile fitted to Milan square 4159"
    assert result.users.shape == (288,)
    assert result.users.dtype.kind == "i"
    assert result.users.min() >= 0
    assert result.users.max() <= 5


def test_the_same_seed_gives_the_same_users_and_another_square_others(tmp_path):
    calendar = SlotCalendar(12, days=2)
    first, again = (users_per_slot(4159, calendar, seed=3, data=tmp_path).users for _ in range(2))
    other_seed = users_per_slot(4159, calendar, seed=4, data=tmp_path).users
    other_square = users_per_slot(5161, calendar, seed=3, data=tmp_path).users
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, other_square)


def test_profile_traffic_follows_the_profile_over_a_working_day(tmp_path):
    users = users_per_slot(4159, SlotCalendar(60), data=tmp_path).users.reshape(24, 60).mean(axis=1)
    expected = 5 * MilanProfile.shipped(4159).weekly[:24]
    assert np.corrcoef(users, expected)[0, 1] > 0.95


def test_a_trace_is_used_where_present_and_scaled_to_the_peak(tmp_path):
    write_trace(tmp_path, 4159, hours=30, value=lambda hour: 40.0 + 10.0 * (hour >= 12))
    result = users_per_slot(4159, SlotCalendar(60, intervals_per_day=24), peak_users=5, data=tmp_path)
    assert result.source == "Milan trace of square 4159"
    assert result.users[:600].mean() == pytest.approx(4.0)
    assert result.users[-600:].mean() == pytest.approx(5.0)


def test_the_weekday_and_hour_choose_where_in_the_trace_the_first_slot_lies(tmp_path):
    path = write_trace(tmp_path, 1, hours=72, value=lambda hour: 1.0 + hour)
    level = milan_trace(path, 1).level(SlotCalendar(6, weekday=1, hour=12.0))
    assert level[-1] == 1.0
    assert level[0] / level[-1] == pytest.approx((1 + 36) / (1 + 60 - 1 / 6))


def test_a_trace_that_is_too_short_is_refused(tmp_path):
    path = write_trace(tmp_path, 1, hours=30)
    with pytest.raises(ConfigError, match="fewer days"):
        milan_trace(path, 1).level(SlotCalendar(6, days=2))


def test_a_trace_with_gaps_is_refused(tmp_path):
    path = write_trace(tmp_path, 1, hours=30)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:20] + lines[21:]))
    with pytest.raises(ConfigError, match="without gaps"):
        milan_trace(path, 1)


@pytest.mark.parametrize("text", ["time_ms,other\n1,2\n", "time_ms,internet\n1,many\n"])
def test_a_trace_without_numbers_in_its_columns_is_refused(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"trace\.csv"):
        milan_trace(path, 1)


@pytest.mark.parametrize("value", ["nan", "-1.0"])
def test_a_trace_with_an_activity_nothing_can_have_is_refused(tmp_path, value):
    path = write_trace(tmp_path, 1, hours=2, value=lambda hour: value)
    with pytest.raises(ConfigError, match="finite internet"):
        milan_trace(path, 1)


def test_a_trace_without_any_activity_is_refused(tmp_path):
    path = write_trace(tmp_path, 1, hours=30, value=lambda hour: 0.0)
    with pytest.raises(ConfigError, match="no activity"):
        milan_trace(path, 1).level(SlotCalendar(6))


def test_the_data_folder_is_the_one_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MICROOPT_DATA", str(tmp_path))
    assert data_folder() == tmp_path
