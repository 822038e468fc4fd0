import numpy as np
import pytest

from microopt_forecaster.choice import HALF_LIFE, LEAST_JUDGED, SHARPNESS, trust

N = np.nan


def test_the_better_one_counts_more_and_all_weights_sum_to_one():
    weights = trust(np.tile([1.0, 0.9, 2.0], (50, 1)))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[1] / weights[0] == pytest.approx((1.0 / 0.9) ** SHARPNESS)
    assert weights[2] < 0.01


def test_what_was_lately_counts_more_than_what_was_long_ago():
    errors = np.vstack([np.tile([1.0, 2.0], (300, 1)), np.tile([2.0, 1.0], (int(2 * HALF_LIFE), 1))])
    first, second = trust(errors)
    assert second > 10 * first


def test_two_are_compared_where_both_said_something():
    early = np.tile([9.0, N], (100, 1))
    late = np.tile([1.0, 1.5], (20, 1))
    first, second = trust(np.vstack([early, late]))
    assert first > 10 * second


def test_one_that_said_little_counts_nothing_yet():
    errors = np.tile([1.0, N], (50, 1))
    errors[-(LEAST_JUDGED - 1) :, 1] = 0.1
    assert trust(errors).tolist() == [1.0, 0.0]
    errors[-LEAST_JUDGED:, 1] = 0.1
    assert trust(errors)[1] > 0.99


def test_with_nothing_judged_the_first_is_trusted():
    assert trust(np.empty((0, 3))).tolist() == [1.0, 0.0, 0.0]


def test_those_that_never_err_count_the_same():
    assert trust(np.zeros((20, 2))).tolist() == [0.5, 0.5]
