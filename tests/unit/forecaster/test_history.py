import numpy as np
import pytest

from microopt_forecaster.calibration import WINDOW
from microopt_forecaster.grid import Grid
from microopt_forecaster.history import MAX_HELD, RECENT_INTERVALS, History

GRID = Grid(1.0, 6.0, 60.0)  # six steps of one slot
COARSE = Grid(1.0, 24.0, 240.0)  # twelve steps of two slots


def fill(history: History, values: dict[int, float | None]) -> History:
    for n, users in values.items():
        history.add(float(n), users)
    return history


def known(history: History) -> dict[int, float]:
    steps = history.steps()
    return {int(n): float(steps.means.values[n - steps.first]) for n in steps.means.known}


@pytest.fixture
def history():
    return History(GRID, horizon_s=40.0)


def test_what_was_never_said_or_said_to_be_unknown_is_a_gap(history):
    assert known(fill(history, {0: 1.0, 1: None, 3: 4.0})) == {0: 1.0, 3: 4.0}


def test_slots_may_come_in_any_order_and_the_latest_word_counts(history):
    fill(history, {5: 6.0, 2: 3.0, 4: 5.0})
    assert known(fill(history, {2: 9.0})) == {2: 9.0, 4: 5.0, 5: 6.0}


def test_what_is_older_than_the_horizon_is_forgotten(history):
    fill(history, {n: float(n) for n in range(55)})
    fill(history, {3: 99.0})
    assert known(history) == {n: float(n) for n in range(15, 55)}


@pytest.mark.parametrize("gap", [3, 39, 40, 41, 1000])
def test_a_gap_leaves_nothing_of_a_former_round(history, gap):
    fill(history, {n: float(n) for n in range(40)})
    fill(history, {39 + gap: 7.0})
    assert known(history) == {n: float(n) for n in range(gap, 40)} | {39 + gap: 7.0}


def test_nothing_is_known_of_an_empty_history(history):
    assert known(history) == {}
    assert history.newest is None
    assert history.slots(0) is None


def test_a_step_is_the_mean_of_its_slots_if_half_of_them_are_known():
    history = fill(History(COARSE, 480.0), {0: 1.0, 1: 3.0, 2: 5.0, 5: None})
    assert known(history) == {0: 2.0, 1: 5.0}


def test_history_that_comes_late_moves_the_means_of_its_steps():
    history = fill(History(COARSE, 4800.0), {4000: 1.0, 10: 2.0, 11: 4.0})
    assert known(history) == {5: 3.0, 2000: 1.0}


def test_the_slots_of_recent_intervals_are_held_and_of_those_before_their_quantiles():
    history = fill(History(COARSE, 4800.0), {n: float(n % 24) for n in range(24 * 10) if n // 24 != 2})
    assert history.slots(9).tolist() == [float(n) for n in range(24)]
    assert history.slots(10 - RECENT_INTERVALS).size == 24
    assert history.slots(9 - RECENT_INTERVALS).tolist() == [1.5, 5.5, 9.5, 13.5, 17.5, 21.5]
    assert history.slots(0).size == 6
    assert history.slots(2) is None
    assert history.slots(10) is None


@pytest.mark.parametrize("gap", [1, 3, 4, 5, WINDOW, 2 * WINDOW])
def test_the_slots_of_a_former_round_are_not_taken_for_those_of_a_gap(gap):
    history = fill(History(COARSE, 4800.0), {n: 7.0 for n in range(24 * 6)})
    fill(history, {24 * (6 + gap): 8.0})
    held = {n: history.slots(n) for n in range(6 + gap + 1)}
    known = [n for n, slots in held.items() if slots is not None and slots.size]
    assert known == [*range(max(0, 6 + gap - RECENT_INTERVALS + 1 - WINDOW), 6), 6 + gap]


def test_slots_are_kept_where_only_the_season_changes():
    history = fill(History(COARSE, 4800.0), {n: float(n % 24) for n in range(24 * 10)})
    other = history.resampled(Grid(1.0, 24.0, 480.0), 9600.0)
    assert [other.slots(n).tolist() for n in range(10)] == [history.slots(n).tolist() for n in range(10)]


def test_a_horizon_of_too_many_steps_is_cut_to_the_newest():
    assert History(GRID, horizon_s=1e9).capacity == MAX_HELD


@pytest.mark.parametrize("other", [Grid(1.0, 12.0, 60.0), Grid(2.0, 24.0, 60.0), Grid(0.5, 3.0, 60.0)])
def test_another_grid_keeps_the_traffic(other):
    history = fill(History(GRID, 600.0), {n: float(n // 12) for n in range(240)})
    steps = history.resampled(other, 600.0).steps()
    times_s = (np.arange(steps.first, steps.end) + 0.5) * other.step_us / 1e6
    assert (steps.first, len(times_s) * other.step_us) == (0, 240_000_000)
    np.testing.assert_allclose(steps.means.values, times_s // 12, atol=1e-6)


def test_another_grid_keeps_gaps_as_gaps():
    history = fill(History(GRID, 600.0), {n: 1.0 for n in range(240) if not 60 <= n < 120})
    steps = history.resampled(Grid(1.0, 24.0, 60.0), 600.0).steps()
    gaps = np.flatnonzero(np.isnan(steps.means.values)) * 2
    assert (gaps.min(), gaps.max()) == (60, 118)


def test_a_shorter_horizon_keeps_the_newest():
    history = fill(History(GRID, 600.0), {n: float(n) for n in range(240)})
    assert min(known(history.resampled(GRID, 60.0))) == 180
