import numpy as np
import pytest

from microopt_forecaster.steps import LEAST_OFFSET, OFFSET_SHARE


def test_the_level_of_an_interval_is_that_of_its_known_steps(make_steps):
    steps = make_steps([1, 2, 3, 4, 5, np.nan, 7, np.nan, np.nan, np.nan, np.nan, 12])
    levels = steps.levels(np.array([0, 1, 2]))
    assert levels[0] == pytest.approx(np.log(3.0 + 0.01))
    assert np.isnan(levels[1:]).all()  # less than half is known; beyond the end


def test_windows_fill_gaps_by_the_season_before_and_say_nothing_beyond_the_ends(make_steps):
    day = np.arange(1.0, 145.0)
    means = np.concatenate([day, day])
    means[200:206] = np.nan
    steps = make_steps(means)
    found = steps.windows(np.array([200, 283, 0, -1]), 6)
    assert found[0] == pytest.approx(np.log(day[56:62].mean() + 0.01))
    assert np.isnan(found[[1, 3]]).all()
    assert found[2] == pytest.approx(np.log(3.5 + 0.01))


def test_a_gap_without_a_season_before_it_is_filled_by_what_was_known_last(make_steps):
    steps = make_steps([5.0, np.nan, np.nan, 7.0])
    assert steps.means.filled.tolist() == [5.0, 5.0, 5.0, 7.0]


def test_filling_looks_only_back(make_steps, daily):
    means = daily(5)
    means[300:310] = np.nan
    whole, past = make_steps(means), make_steps(means[:320])
    np.testing.assert_array_equal(whole.means.filled[:320], past.means.filled)


def test_the_offset_is_a_share_of_the_mean_and_never_nothing(make_steps):
    assert make_steps(np.full(50, 40.0)).usual_offset() == pytest.approx(40.0 * OFFSET_SHARE)
    assert make_steps(np.zeros(50)).usual_offset() == LEAST_OFFSET
    assert make_steps([]).usual_offset() == LEAST_OFFSET
