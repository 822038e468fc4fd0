from datetime import UTC, datetime

import pytest

from microopt_forecaster.schedule import Schedule

T0 = 1_800_000_000.0
N0 = 180_000_000  # the interval of 10 s that begins at T0


@pytest.fixture
def schedule():
    return Schedule(interval_s=10.0, lead_s=2.0)


def test_the_current_interval_is_due_first(schedule):
    assert list(schedule.due(T0 + 3)) == [N0]
    assert schedule.wait_s(T0 + 3) <= 0
    assert schedule.start(N0) == datetime.fromtimestamp(T0, UTC)


def test_the_next_interval_is_due_a_lead_before_it_begins(schedule):
    schedule.done(N0)
    assert list(schedule.due(T0 + 7.99)) == []
    assert schedule.wait_s(T0 + 7) == pytest.approx(1.0)
    assert list(schedule.due(T0 + 8)) == [N0 + 1]


def test_an_interval_is_due_once(schedule):
    for interval in schedule.due(T0 + 9):
        schedule.done(interval)
    assert list(schedule.due(T0 + 9.5)) == []
    assert list(schedule.due(T0 + 18)) == [N0 + 2]


def test_intervals_that_passed_meanwhile_are_left_out(schedule):
    schedule.done(N0)
    assert list(schedule.due(T0 + 1005)) == [N0 + 100]


def test_a_lead_longer_than_the_interval_reaches_several_ahead():
    assert list(Schedule(10.0, 25.0).due(T0 + 6)) == [N0, N0 + 1, N0 + 2, N0 + 3]


def test_a_clock_that_was_far_ahead_does_not_end_forecasting(schedule):
    schedule.done(N0 + 1_000_000)
    assert list(schedule.due(T0 + 3)) == [N0]


def test_a_clock_that_is_set_back_a_little_repeats_nothing(schedule):
    schedule.done(N0 + 1)
    assert list(schedule.due(T0 + 7.9)) == []


def test_short_intervals_are_not_rounded_into_the_former_one():
    schedule = Schedule(0.1, 0.0)
    numbers = [schedule.number(T0 + n * 0.1) for n in range(1000)]
    assert numbers == list(range(numbers[0], numbers[0] + 1000))
