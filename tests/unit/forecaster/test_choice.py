import numpy as np

from microopt_forecaster.choice import LEAST_JUDGED, choose

N = np.nan


def test_the_best_by_a_margin_is_chosen_and_one_about_as_good_is_not():
    errors = np.tile([1.0, 0.5, 0.8], (50, 1))
    assert choose(errors, 0) == 1
    assert choose(np.tile([1.0, 0.98], (50, 1)), 0) == 0


def test_two_are_compared_where_both_said_something():
    early = np.tile([9.0, N], (100, 1))
    late = np.tile([1.0, 1.5], (20, 1))
    assert choose(np.vstack([early, late]), 0) == 0


def test_one_that_said_little_is_not_chosen():
    errors = np.tile([1.0, N], (50, 1))
    errors[-(LEAST_JUDGED - 1) :, 1] = 0.1
    assert choose(errors, 0) == 0
    errors[-LEAST_JUDGED:, 1] = 0.1
    assert choose(errors, 0) == 1


def test_nothing_judged_changes_nothing():
    assert choose(np.empty((0, 3)), 2) == 2
