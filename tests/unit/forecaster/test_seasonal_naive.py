import numpy as np
import pytest

from microopt_forecaster.history import History
from microopt_forecaster.models.seasonal_naive import SeasonalNaive

T0 = 1_800_000_000.0  # a multiple of every length here
SLOT_S, INTERVAL_S, SEASON_S = 1.0, 20.0, 240.0
N, M = 20, 240  # slots of an interval, of a season
MODEL = SeasonalNaive(SEASON_S)


def remember(users, *, seasons: int = 15, first: int = 0) -> History:
    """Build the history of `users` in slots `first`, `first` + 1, … after T0; NaN is a gap."""
    history = History(SLOT_S, seasons * SEASON_S + 2 * INTERVAL_S)
    for n, value in enumerate(users, first):
        history.add(T0 + n * SLOT_S, None if np.isnan(value) else float(value))
    return history


def forecast(history: History, slot: int, model: SeasonalNaive = MODEL):
    return model.forecast(history, T0 + slot * SLOT_S, INTERVAL_S)


def histogram(users) -> dict[float, float]:
    values, counts = np.unique(users, return_counts=True)
    return dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))


def atoms(traffic) -> dict[float, float]:
    return dict(zip(traffic.users, traffic.weights, strict=True))


def season() -> np.ndarray:
    """One season of whole users, no two intervals alike."""
    return np.random.default_rng(7).poisson(np.repeat(np.linspace(2.0, 30.0, M // N), N)).astype(float)


def noisy(rng, seasons: int, *, by_interval: float, by_slot: float) -> np.ndarray:
    """A season that repeats around 50 users, with Gaussian noise of each interval and of each slot."""
    level = np.tile(np.repeat(50.0 + 20.0 * np.sin(np.arange(M // N) / 2.0), N), seasons)
    shifts = np.repeat(rng.normal(0.0, by_interval, level.size // N), N)
    return level + shifts + rng.normal(0.0, by_slot, level.size)


@pytest.mark.parametrize("interval", range(M // N))
def test_a_perfectly_seasonal_series_is_forecast_as_it_is(interval):
    slot = 3 * M + interval * N
    found = forecast(remember(np.tile(season(), 4)[:slot]), slot)
    assert atoms(found) == pytest.approx(histogram(season()[interval * N : (interval + 1) * N]))


def test_nothing_at_or_after_the_start_of_the_interval_is_used():
    series = noisy(np.random.default_rng(3), 5, by_interval=3.0, by_slot=1.0)
    whole, cut = remember(series), remember(series[: 4 * M])
    for history in (whole, cut):
        history.add(T0 - SLOT_S, 50.0)
    assert forecast(whole, 4 * M) == forecast(cut, 4 * M)


def test_the_atoms_are_every_slot_a_season_ago_moved_by_every_residual_quantile():
    level = season()[:N]
    shifts = [0.0, 4.0, 1.0]  # of the interval in seasons 0, 1 and 2: residuals 4 and -3
    users = np.full(3 * M, np.nan)
    for s, shift in enumerate(shifts):
        users[s * M : s * M + N] = level + shift + 5.0
    found = forecast(remember(users), 3 * M, SeasonalNaive(SEASON_S, residual_quantiles=2))
    expected = np.add.outer(level + shifts[-1] + 5.0, [-3.0, 4.0])  # as many quantiles as residuals: themselves
    assert atoms(found) == pytest.approx(histogram(expected.ravel()))


def test_noise_between_seasons_widens_the_atoms():
    def spread(by_interval):
        series = noisy(np.random.default_rng(5), 10, by_interval=by_interval, by_slot=0.0)
        found = forecast(remember(series), 10 * M)
        return max(found.users) - min(found.users)

    assert spread(0.0) == pytest.approx(0.0, abs=1e-9)
    assert spread(1.0) > 1.0
    assert spread(4.0) == pytest.approx(4.0 * spread(1.0))


@pytest.mark.parametrize(("by_interval", "by_slot"), [(4.0, 0.5), (3.0, 3.0)])
def test_as_many_slots_fall_below_a_quantile_as_it_promises(by_interval, by_slot):
    seasons, begin = 60, 15
    series = noisy(np.random.default_rng(11), seasons, by_interval=by_interval, by_slot=by_slot)
    history = remember(series[: begin * M])
    levels = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    below = []
    for slot in range(begin * M, seasons * M, N):
        found = forecast(history, slot)
        quantiles = np.array(found.users)[np.searchsorted(np.cumsum(found.weights), levels)]
        below.append(np.mean(series[slot : slot + N, None] <= quantiles, axis=0))
        for n in range(slot, slot + N):
            history.add(T0 + n * SLOT_S, series[n])
    assert np.mean(below, axis=0) == pytest.approx(levels, abs=0.05)


def test_an_interval_that_was_missed_a_season_ago_is_taken_from_the_season_before():
    series = np.tile(season(), 4)
    series[3 * M : 3 * M + N // 2 + 1] = np.nan
    assert atoms(forecast(remember(series), 4 * M)) == pytest.approx(histogram(season()[:N]))


def test_half_of_an_interval_is_enough():
    series = np.tile(season(), 4)
    series[3 * M : 3 * M + N // 2] = np.nan
    assert atoms(forecast(remember(series), 4 * M)) == pytest.approx(histogram(season()[N // 2 : N]))


def test_what_persists_is_forecast_before_there_is_a_season():
    level = season()[:N]
    users = np.concatenate([level, level + 2.0, level + 1.0])  # residuals 2 and -1
    found = forecast(remember(users), 3 * N, SeasonalNaive(SEASON_S, residual_quantiles=2))
    expected = np.add.outer(level + 1.0, [-1.0, 2.0]).ravel()
    assert atoms(found) == pytest.approx(histogram(expected.clip(0.0)))


def test_the_lead_may_hide_the_end_of_the_last_interval():
    users = np.full(3 * N, 4.0)
    users[-3:] = np.nan
    assert atoms(forecast(remember(users), 3 * N)) == {4.0: 1.0}


@pytest.mark.parametrize("slots", [0, 1, N, 2 * N])
def test_less_than_three_intervals_are_too_little(slots):
    assert forecast(remember(season()[:slots]), slots) is None


def test_persistence_ends_with_the_telemetry():
    users = season()[: 5 * N]
    assert forecast(remember(users), 5 * N) is not None
    assert forecast(remember(users), 6 * N) is not None
    assert forecast(remember(users), 7 * N) is None


def test_a_season_shorter_than_an_interval_never_reaches_into_the_future():
    history = remember(np.tile([1.0, 2.0, 3.0, 4.0], 50))
    found = SeasonalNaive(season_s=4.0).forecast(history, T0 + 200, INTERVAL_S)
    assert atoms(found) == pytest.approx({1.0: 0.25, 2.0: 0.25, 3.0: 0.25, 4.0: 0.25})


def test_users_are_never_negative():
    series = noisy(np.random.default_rng(9), 6, by_interval=8.0, by_slot=4.0) - 45.0
    found = forecast(remember(series.clip(0.0)), 6 * M)
    assert min(found.users) == 0.0
    assert len(found.users) <= 256
