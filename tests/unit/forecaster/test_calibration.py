import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microopt_forecaster.calibration import COVERAGES, LEVELS, Calibration, bands


def covered(errors, calibration, begin=168):
    """Return the share of the errors after `begin` inside each band, claimed one by one."""
    inside = []
    for interval, error in enumerate(errors):
        found = bands(calibration.quantiles(interval))
        inside.append([low <= error <= high for low, high in found])
        calibration.update(interval, np.array([error]))
    return np.mean(inside[begin:], axis=0)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed", "biased"])
def test_bands_cover_what_they_claim_whatever_the_errors_are(kind, rng):
    errors = {
        "normal": rng.normal(0.0, 0.2, 2000),
        "heavy": 0.1 * rng.standard_t(2.5, 2000),
        "skewed": rng.exponential(0.3, 2000),
        "biased": rng.normal(0.5, 0.1, 2000),
    }[kind]
    np.testing.assert_allclose(covered(errors, Calibration(24)), COVERAGES, atol=0.02)


def test_bands_cover_what_they_claim_after_errors_have_grown_threefold(rng):
    errors = rng.normal(0.0, 0.1, 2000) * np.where(np.arange(2000) < 1000, 1.0, 3.0)
    np.testing.assert_allclose(covered(errors, Calibration(24), begin=1024), COVERAGES, atol=0.025)


def test_bands_are_wide_where_the_season_is_uncertain_and_narrow_where_it_is_not(rng):
    size = np.where(np.arange(2400) % 24 < 6, 0.4, 0.05)
    calibration = Calibration(24)
    covered(rng.normal(0.0, 1.0, 2400) * size, calibration)
    night, day = (np.ptp(calibration.quantiles(phase)) for phase in (3, 15))
    assert night > 3 * day


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=400), st.integers(0, 2**31))
def test_quantiles_ascend_and_stay_finite_whatever_comes(errors, seed):
    calibration = Calibration(24, width=3)
    noise = np.random.default_rng(seed)
    for interval, error in enumerate(errors):
        calibration.update(interval, error + noise.normal(0.0, 1.0, 3))
        found = calibration.quantiles(interval + 1)
        assert np.isfinite(found).all()
        assert (np.diff(found) >= 0).all()
        assert (np.diff(calibration.levels) >= 0).all()


def test_flat_traffic_has_narrow_bands_and_a_first_surprise_does_not_burst_them():
    calibration = Calibration(24)
    for interval in range(336):
        calibration.update(interval, np.zeros(1))
    assert np.ptp(calibration.quantiles(336)) < 0.1
    calibration.update(336, np.array([8.0]))
    assert np.abs(calibration.quantiles(337)).max() < 8.0


def test_with_few_errors_bands_are_as_wide_as_usual_errors_are():
    calibration = Calibration(24)
    for interval in range(2):
        calibration.update(interval, np.array([0.01]))
    low, high = bands(calibration.quantiles(2))[-1]
    assert low < -0.1
    assert high > 0.1


def test_realised_coverage_is_that_of_what_was_claimed(rng):
    calibration = Calibration(24)
    assert np.isnan(calibration.realised()[0]).all()
    errors = rng.normal(0.0, 0.2, 336)
    counted = covered(errors, calibration, begin=0)
    shares, judged = calibration.realised()
    assert judged == 336
    np.testing.assert_allclose(shares, counted, atol=1e-9)


def test_bands_are_between_quantiles_that_leave_out_as_much_on_both_sides():
    assert bands(LEVELS) == [(0.1, 0.9), (0.05, 0.95), (0.025, 0.975)]
