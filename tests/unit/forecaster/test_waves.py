import numpy as np
import pytest

from microopt_forecaster.day_types import DayTypes
from microopt_forecaster.grid import Grid
from microopt_forecaster.models.ridge import LEAST_SEASONS_OF_WAVES, Ridge
from microopt_forecaster.models.waves import waves

HOURLY = Grid(3600.0, 3600.0, 86_400.0)
WAVES = Ridge("ridge-waves", DayTypes(), with_waves=True)


@pytest.fixture
def hourly(make_steps, daily):
    """Build `days` of hours whose slots are hours too."""

    def build(days=35, **how):
        return make_steps(daily(days, **how).reshape(-1, 6).mean(axis=1), grid=HOURLY, offset=5.0)

    return build


def error(model, steps, gap=0, first_day=28):
    fitted = model.fit(steps.before(first_day * 24 - gap), gap)
    at = np.arange(first_day * 24, steps.end)
    return float(np.abs(fitted.levels(steps, at) - steps.levels(at)).mean())


def test_waves_come_again_after_a_week_and_not_before():
    found = waves(HOURLY, np.arange(400_000, 400_000 + 2 * 168))
    assert found.shape == (336, 18)
    np.testing.assert_array_equal(found[:168], found[168:])
    assert not np.isclose(found[0], found[24]).all()


def test_the_waves_of_an_interval_are_the_same_whichever_others_are_asked_for():
    many = waves(HOURLY, np.arange(-50, 50))
    one = [waves(HOURLY, np.array([n]))[0] for n in range(-50, 50)]
    np.testing.assert_array_equal(many, one)


@pytest.mark.parametrize("gap", [0, 1, 23])
def test_a_forecast_uses_nothing_that_is_not_known_when_it_is_made(gap, hourly, make_steps):
    steps = hourly()
    fitted = WAVES.fit(steps.before(28 * 24), gap)
    for interval in (28 * 24, 30 * 24 + 7):
        means = steps.means.values.copy()
        means[interval - gap :] = 1e6
        changed = make_steps(means, grid=HOURLY, offset=5.0)
        was, now = (fitted.levels(s, np.array([interval])) for s in (steps, changed))
        assert was == pytest.approx(now)
        assert not np.isnan(was).any()


def test_where_only_noise_is_new_waves_err_less_than_the_hours_before_do(hourly):
    with_waves, without = (
        np.mean([error(model, hourly(noise=0.3, seed=seed)) for seed in range(8)]) for model in (WAVES, Ridge())
    )
    assert with_waves < without


def test_two_weeks_of_what_is_fitted_are_needed(hourly):
    steps = hourly(30)
    assert WAVES.fit(steps.before(21 * 24), 0) is not None
    assert WAVES.fit(steps.before(LEAST_SEASONS_OF_WAVES * 24), 0) is None


def test_intervals_of_several_steps_and_other_seasons_are_left_to_others(make_steps, daily):
    assert WAVES.fit(make_steps(daily(35)), 0) is None
    other = make_steps(np.tile(np.arange(1.0, 13.0), 100), grid=Grid(3600.0, 3600.0, 43_200.0))
    assert WAVES.fit(other, 0) is None
