import numpy as np
import pytest

from microopt_forecaster.traffic import traffic


def test_equal_values_are_one_atom_with_their_share():
    found = traffic(np.array([3.0, 1.0, 3.0, 3.0]))
    assert (found.users, found.weights) == ((1.0, 3.0), (0.25, 0.75))


def test_there_are_never_less_than_no_users():
    found = traffic(np.array([-2.0, -1.0, 0.0, 4.0]))
    assert (found.users, found.weights) == ((0.0, 4.0), (0.75, 0.25))


def test_many_atoms_are_merged_without_moving_mean_or_quantiles():
    samples = np.random.default_rng(1).gamma(2.0, 3.0, 5000)
    found = traffic(samples, max_atoms=64)
    assert len(found.users) <= 64
    assert found.mean == pytest.approx(samples.mean(), rel=1e-9)
    assert list(found.users) == sorted(found.users)
    for level in (0.1, 0.5, 0.9):
        reached = found.users[int(np.searchsorted(np.cumsum(found.weights), level))]
        assert np.mean(samples <= reached) == pytest.approx(level, abs=1 / 64)


def test_one_value_that_is_most_of_all_stays_itself_when_others_are_merged():
    samples = np.concatenate([np.full(9000, 5.0), np.random.default_rng(2).uniform(0.0, 4.0, 1000)])
    found = traffic(samples, max_atoms=16)
    assert found.users[-1] == pytest.approx(5.0, abs=0.2)
    assert found.weights[-1] == pytest.approx(0.9, abs=1 / 16)
    assert found.mean == pytest.approx(samples.mean(), rel=1e-9)
