import sys

import numpy as np
import pytest

from microopt.errors import ConfigError
from microopt_forecaster import models
from microopt_forecaster.grid import Grid
from microopt_forecaster.models.ces import Ces
from microopt_forecaster.models.ridge import Ridge
from microopt_forecaster.models.seasonal_naive import SeasonalNaive

ALL = [SeasonalNaive(), Ces(), Ridge()]
BY_NAME = pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)


def targets(days, first=21):
    return np.arange(first * 24, days * 24)


def error(model, steps, gap, days=28, fitted_days=21):
    fitted = model.fit(steps.before(fitted_days * 144 - gap), gap)
    at = targets(days, fitted_days)
    return float(np.nanmean(np.abs(fitted.levels(steps, at) - steps.levels(at))))


@BY_NAME
@pytest.mark.parametrize("gap", [0, 3, 6, 138])
def test_a_forecast_uses_nothing_that_is_not_known_when_it_is_made(model, gap, make_steps, daily):
    means = daily(28)
    steps = make_steps(means, offset=5.0)
    fitted = model.fit(steps.before(21 * 144), gap)
    for interval in (21 * 24, 23 * 24 + 7):
        changed = means.copy()
        changed[interval * 6 - gap :] = 1e6
        was, now = (fitted.levels(s, np.array([interval])) for s in (steps, make_steps(changed, offset=5.0)))
        assert was == pytest.approx(now)
        assert not np.isnan(was).any()


@BY_NAME
def test_a_day_that_repeats_is_found(model, make_steps, daily):
    steps = make_steps(np.tile(daily(1, noise=0.0), 28), offset=5.0)
    assert error(model, steps, gap=0) < 0.02


def test_the_learned_model_is_better_than_the_naive_one_where_days_differ(make_steps, daily):
    steps = make_steps(daily(28), offset=5.0)
    for gap in (0, 6):
        assert error(Ridge(), steps, gap) < 0.7 * error(SeasonalNaive(), steps, gap)


@BY_NAME
@pytest.mark.parametrize("means", [np.zeros(4032), np.full(4032, 7.0)], ids=["zero", "flat"])
def test_traffic_that_never_changes_is_expected_as_it_is(model, means, make_steps):
    steps = make_steps(means, offset=0.5)
    found = model.fit(steps.before(21 * 144), 0).levels(steps, targets(28))
    np.testing.assert_allclose(found, np.log(means[0] + 0.5), atol=1e-3)


@BY_NAME
def test_a_gap_of_hours_in_the_past_changes_little(model, make_steps, daily):
    means = daily(28)
    whole = error(model, make_steps(means, offset=5.0), 0)
    means[20 * 144 + 30 : 20 * 144 + 60] = np.nan
    assert error(model, make_steps(means, offset=5.0), 0) < 1.5 * whole + 0.02


@BY_NAME
def test_too_little_history_is_no_forecast_or_persistence(model, make_steps):
    steps = make_steps([3.0, 4.0, 5.0, 4.0, 3.0, 5.0], offset=1.0)
    fitted = model.fit(steps, 0)
    if fitted is not None:
        assert fitted.levels(steps, np.array([1])) == pytest.approx(np.log(4.0 + 1.0))


def test_the_naive_model_goes_back_as_many_seasons_as_there_are_gaps(make_steps, daily):
    means = daily(28)
    means[26 * 144 : 27 * 144] = np.nan
    steps = make_steps(means, offset=5.0)
    at = np.array([27 * 24 + 5])
    assert SeasonalNaive().fit(steps, 0).levels(steps, at) == steps.levels(at - 48)


@BY_NAME
def test_intervals_without_seasons_are_forecast_too(model, make_steps):
    grid = Grid(1.0, 6.0, 6.0)
    steps = make_steps(10.0 + np.arange(600) % 2, grid=grid, offset=1.0)
    found = model.fit(steps.before(480), 1).levels(steps, np.array([90]))
    assert found == pytest.approx(np.log(11.5), abs=0.1)


def test_an_unknown_model_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match="no forecast model prophecy; known: seasonal-naive, ces, ridge"):
        models.make(["ridge", "prophecy"])


def test_without_its_library_neuralprophet_says_what_to_install(monkeypatch, make_steps, daily):
    monkeypatch.setitem(sys.modules, "neuralprophet", None)
    (model,) = models.make(["neuralprophet"])
    with pytest.raises(ConfigError, match=r'pip install "microopt\[neuralprophet\]"'):
        model.fit(make_steps(daily(7)), 0)
