import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microopt.errors import ConfigError
from microopt_testbed.surface import QosSurface, load_statistics, monotone_grid, tabulate

SURFACE = QosSurface.shipped()
LEVELS = SURFACE.levels

users_values = st.floats(1.0, 8.0)
cpu_values = st.floats(0.0, 5000.0)
bandwidth_values = st.floats(0.0, 60.0)
points = st.tuples(users_values, cpu_values, bandwidth_values)


def at(users, cpu, bandwidth):
    return SURFACE.quantiles(users, cpu, bandwidth)


@given(points, st.floats(0.0, 4.0), st.floats(0.0, 4000.0), st.floats(0.0, 40.0))
def test_no_quantile_worsens_with_more_resources_or_fewer_users(point, extra_users, extra_cpu, extra_bandwidth):
    users, cpu, bandwidth = point
    worse = at(users + extra_users, cpu, bandwidth)
    better = at(users, cpu + extra_cpu, bandwidth + extra_bandwidth)
    assert np.all(worse <= better + 1e-9)


@given(points)
def test_quantiles_rise_with_their_level_and_are_never_negative(point):
    quantiles = at(*point)
    assert np.all(np.diff(quantiles) >= 0.0)
    assert quantiles[0] >= 0.0


@given(points, st.floats(0.001, 0.999))
def test_degradation_at_a_quantile_gives_back_its_level(point, level):
    quantile = np.interp(level, LEVELS, at(*point))
    # Just below and just above it, because many levels may tie at one value.
    below, above = SURFACE.degradation([quantile - 1e-9, quantile + 1e-9], *point)
    assert below - 1e-9 <= level <= above + 1e-9


@given(points, st.floats(0.0, 15.0), st.floats(0.0, 5.0))
def test_degradation_is_a_distribution_in_the_threshold(point, threshold, more):
    low, high = SURFACE.degradation([threshold, threshold + more], *point)
    assert 0.0 <= low <= high <= 1.0


def test_degradation_counts_a_whole_tie_once_the_threshold_reaches_it():
    tied = QosSurface(
        axes=(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        levels=np.array([0.0, 0.25, 0.75, 1.0]),
        grid=np.broadcast_to(np.array([1.0, 3.0, 3.0, 4.0]), (2, 2, 2, 4)).copy(),
    )
    values = tied.degradation([0.999, 1.0, 2.0, np.nextafter(3.0, 0.0), 3.0, 3.5, 4.0, 5.0], 1, 1, 1)
    assert values == pytest.approx([0.0, 0.0, 0.125, 0.25, 0.75, 0.875, 1.0, 1.0])


def test_degradation_of_a_certain_value_is_a_step():
    certain = QosSurface(
        axes=(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        levels=np.array([0.0, 1.0]),
        grid=np.full((2, 2, 2, 2), 3.0),
    )
    assert certain.degradation([2.999, 3.0], 1, 1, 1) == pytest.approx([0.0, 1.0])


def test_resources_above_the_grid_change_nothing():
    assert at(3, 9000, 80) == pytest.approx(at(3, 4000, 40))


def test_qos_falls_linearly_to_nothing_below_the_grid():
    edge = at(2, 500, 5)
    assert at(2, 250, 5) == pytest.approx(edge / 2)
    assert at(2, 500, 1) == pytest.approx(edge / 5)
    assert at(2, 250, 2.5) == pytest.approx(edge / 4)
    assert np.all(at(2, 0, 40) == 0.0)
    assert float(SURFACE.degradation(3.0, 2, 0, 40)) == 1.0


def test_more_users_than_measured_share_what_five_got():
    assert at(10, 3000, 30) == pytest.approx(at(5, 3000, 30) / 2)


def test_less_than_one_user_counts_as_one():
    assert at([0.0, 0.4], 3000, 30) == pytest.approx(np.stack([at(1, 3000, 30)] * 2))


def test_inputs_are_broadcast_against_each_other():
    assert SURFACE.quantiles(np.ones((4, 1)), 1000, np.linspace(5, 40, 3)).shape == (4, 3, LEVELS.size)
    assert SURFACE.degradation([[3.0], [4.0]], [1, 2, 3], 1000, 20).shape == (2, 3)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_resource_that_is_no_quantity_is_refused_by_name(bad):
    with pytest.raises(ValueError, match="transport_bandwidth_mbps"):
        at(1, 1000, [5.0, bad])


def test_samples_follow_the_degradation():
    rng = np.random.default_rng(7)
    sampled = SURFACE.sample(np.full(40_000, 3), 2000, 20, rng)
    for threshold in (3.5, 4.0, 4.5, 5.0):
        expected = float(SURFACE.degradation(threshold, 3, 2000, 20))
        assert np.mean(sampled <= threshold) == pytest.approx(expected, abs=0.01)


def test_the_same_seed_gives_the_same_samples():
    first, second = (SURFACE.sample([1, 2, 3], 2000, 20, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)


def test_shipped_medians_stay_close_to_the_measured_ones_where_slas_lie():
    _, raw = tabulate(load_statistics())
    median = int(np.flatnonzero(LEVELS == 0.5)[0])
    measured, surface = raw[..., median], SURFACE.grid[..., median]
    relevant = (measured > 1.5) & (measured < 7.5)
    difference = np.abs(surface - measured)[relevant]
    assert difference.mean() < 0.03
    assert difference.max() < 0.4


def test_a_cell_never_measured_is_as_good_as_the_best_that_cannot_be_better():
    counts, _ = tabulate(load_statistics())
    missing = {tuple(int(i) for i in index) for index in np.argwhere(counts[..., 0] == 0)}
    assert missing == {(4, 0, b) for b in range(1, 7)} | {(0, 6, 0)}
    for bandwidth in range(1, 7):
        assert np.array_equal(SURFACE.grid[4, 0, bandwidth], SURFACE.grid[4, 0, 0])
    neighbours = np.maximum(SURFACE.grid[0, 5, 0], SURFACE.grid[1, 6, 0])
    assert np.array_equal(SURFACE.grid[0, 6, 0], neighbours)


@given(st.integers(0, 10_000))
def test_a_monotone_grid_is_left_as_it_is_and_any_grid_becomes_monotone(seed):
    rng = np.random.default_rng(seed)
    grid = np.sort(rng.random((3, 4, 2, 5)), axis=-1)
    weights = rng.uniform(0.5, 60.0, (3, 4, 2, 1))
    monotone = monotone_grid(grid, weights)
    assert np.all(np.diff(monotone, axis=0) <= 0.0)
    assert np.all(np.diff(monotone, axis=1) >= 0.0)
    assert np.all(np.diff(monotone, axis=2) >= 0.0)
    assert np.all(np.diff(monotone, axis=3) >= 0.0)
    assert monotone_grid(monotone, weights) == pytest.approx(monotone, abs=1e-5)
    assert np.sum(monotone * weights) == pytest.approx(np.sum(grid * weights), rel=1e-4)


def test_two_values_in_the_wrong_order_meet_at_their_weighted_mean():
    grid = np.array([3.0, 1.0]).reshape(1, 2, 1, 1)
    weights = np.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    assert monotone_grid(grid, weights).ravel() == pytest.approx([1.5, 1.5])


def test_a_cell_off_the_axes_is_refused():
    statistics = load_statistics()
    stray = msgspec.structs.replace(statistics.cells[0], gnb_cpu_millicores=777.0)
    with pytest.raises(ConfigError, match=r"777\.0"):
        QosSurface.from_statistics(msgspec.structs.replace(statistics, cells=[stray]))
