import numpy as np
import pytest
from forecast import peers, score, traces
from forecast.score import Said
from forecast.traces import Trace

from microopt_forecaster.grid import Grid

NAN = float("nan")


def test_the_seasonal_error_is_the_mean_difference_to_a_season_before():
    assert score.seasonal_error(np.array([1.0, 2.0, 4.0, 2.0]), season=2) == 1.5  # |4 - 1|, |2 - 2|
    assert score.seasonal_error(np.array([1.0, NAN, 4.0, 2.0]), season=2) == 3.0


def test_mase_is_the_mean_absolute_error_over_its_scale():
    assert score.mase(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0]), scale=2.0) == 0.5


def test_what_is_unknown_is_not_judged_and_a_forecast_that_is_missing_is_infinitely_wrong():
    actual = np.array([1.0, NAN])
    assert score.mase(actual, np.array([2.0, 9.0]), 1.0) == 1.0
    assert score.mase(actual, np.array([NAN, 9.0]), 1.0) == np.inf


def test_pinball_weighs_what_is_above_by_the_level_and_what_is_below_by_the_rest():
    levels = np.array([0.1, 0.9])
    found = score.pinball(np.array([10.0, NAN]), np.array([[8.0, 14.0], [0.0, 0.0]]), levels)
    assert found == pytest.approx((0.1 * 2.0 + 0.1 * 4.0) / 2.0)


def test_coverage_is_the_share_inside_ends_included():
    bands = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert score.coverage(np.array([1.0, 2.5, 1.5, NAN]), bands) == pytest.approx(2.0 / 3.0)


def test_a_row_scales_by_the_seasonal_error_before_the_last_period():
    grid = Grid(3600.0, 3600.0, 7200.0)  # a season of two hours
    trace = Trace("t", "lte", 0, np.array([1.0, 1.0, 3.0, 3.0, 100.0, 200.0]), grid)
    point = np.array([2.0, 2.0, 104.0, 200.0])
    said = Said(
        point=point,
        quantiles=np.repeat(point[:, None], 19, axis=1),
        bands=np.stack([np.tile([0.0, top], (4, 1)) for top in (3.0, 150.0, 300.0)], axis=1),
        slots=None,
        fit_s=0.0,
        update_s=0.0,
        refit_hours=24.0,
    )
    row = score.row(trace, 1, "model", said, last_hours=2)
    assert row["mase_168"] == 1.0  # (4 + 0) / 2 over a scale of 2
    assert row["mase_336"] == 0.75  # (1 + 1 + 4 + 0) / 4 over 2
    assert (row["coverage_80"], row["coverage_90"], row["coverage_95"]) == (0.5, 0.75, 1.0)
    # Half of the levels' weights on either side: half of the absolute error, over the mean of the trace.
    assert row["pinball"] == pytest.approx(0.5 * 1.5 / np.mean(trace.users))
    assert "coverage_90_slots" not in row


def test_a_peer_sees_gaps_filled_by_the_season_before():
    assert peers.filled(np.array([1.0, 2.0, NAN, 4.0]), season=2).tolist() == [1.0, 2.0, 1.0, 4.0]
    assert peers.filled(np.array([1.0, NAN, 3.0]), season=2).tolist() == [1.0, 1.0, 3.0]


def test_slots_of_an_interval_come_with_their_times_and_without_gaps():
    trace = Trace("t", "lte", 12, np.array([1.0, NAN, 3.0, 4.0, 5.0, 6.0]), Grid(600.0, 1800.0, 3600.0))
    assert trace.first == 4
    assert list(trace.slots_of(4)) == [(7200.0, 1.0), (8400.0, 3.0)]
    np.testing.assert_array_equal(trace.means, [NAN, 5.0])


def test_missing_data_are_named(tmp_path):
    with pytest.raises(Exception, match=r"milan/ts_full_square_4159.csv.*MICROOPT_DATA"):
        traces.measured(tmp_path)
