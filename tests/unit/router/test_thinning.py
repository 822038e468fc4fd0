import pytest
from hypothesis import given
from hypothesis import strategies as st

from microopt.errors import MicrooptError
from microopt.messages import Traffic
from microopt_optimizer.router.thinning import most_atoms, thinned

ATOMS = st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 1.0)), min_size=1, max_size=80)


def traffic_of(atoms) -> Traffic:
    total = sum(weight for _, weight in atoms)
    return Traffic(tuple(u for u, _ in atoms), tuple(w / total for _, w in atoms))


def exceeding(traffic: Traffic, users: float) -> float:
    return sum(w for u, w in zip(traffic.users, traffic.weights, strict=True) if u > users)


@given(ATOMS, st.integers(8, 40))
def test_thinned_traffic_has_few_atoms_and_never_fewer_users(atoms, most):
    before = traffic_of(atoms)
    after = thinned(before, most)
    assert len(after.users) <= most
    assert max(after.users) == max(before.users)
    for users in before.users:
        assert exceeding(after, users) >= exceeding(before, users) - 1e-9


@given(ATOMS)
def test_traffic_that_fits_is_left_alone(atoms):
    traffic = traffic_of(atoms)
    assert thinned(traffic, 80) is traffic


def test_equal_weights_are_merged_in_equal_groups():
    traffic = Traffic(tuple(float(n) for n in range(32)), (1 / 32,) * 32)
    assert thinned(traffic, 8).users == (3.0, 7.0, 11.0, 15.0, 19.0, 23.0, 27.0, 31.0)
    assert thinned(traffic, 8).weights == pytest.approx((1 / 8,) * 8)


def test_too_many_slices_for_a_request_are_refused_with_the_remedy():
    assert most_atoms(2, 1_048_576) > 1024
    with pytest.raises(MicrooptError, match=r"1000 slices do not fit .* raise max_payload"):
        most_atoms(1000, 1_048_576)
    assert most_atoms(1000, 8 * 1_048_576) >= 100
