import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from microopt.messages import SliceSolution
from microopt_optimizer.router.problem import problem as build_problem
from microopt_optimizer.router.smoothing import smoothed

CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"
A, B = "1-000001", "2"
SHARE = st.floats(0.0, 1.0)


@pytest.fixture
def make_problem(make_pool, make_slice, make_forecast):
    def build(current, bandwidth=1000.0):
        slices = {name: make_slice(name) for name in current}
        forecasts = {name: make_forecast(name) for name in current}
        asked = build_problem(
            make_pool(bandwidth=bandwidth), forecasts[A].interval, forecasts, slices, {}, 1.0, 256, {}, {}
        )
        own = [replace(s, current={BANDWIDTH: current[s.slice]}) for s in asked.slices]
        return replace(asked, slices=own)

    return build


def answers(**bandwidth):
    return {
        name: SliceSolution(slice=name, allocation={BANDWIDTH: value, CPU: 900.0}, status="optimal", reason="")
        for name, value in bandwidth.items()
    }


def run(problem, accepted, deadband=0.02, shrink_at_most=0.5):
    found = smoothed(problem, accepted, deadband=deadband, shrink_at_most=shrink_at_most)
    return {name: one.values[BANDWIDTH] for name, one in found.items()}, found


@pytest.mark.parametrize(
    ("has", "answer", "gets"),
    [
        (40.0, 50.0, 50.0),  # growth at once
        (40.0, 40.1, 40.1),
        (40.0, 39.3, 40.0),  # the deadband
        (40.0, 39.1, 39.1),
        (40.0, 21.0, 21.0),
        (40.0, 5.0, 20.0),  # half of it at most
    ],
)
def test_what_grows_does_so_at_once_and_what_shrinks_in_steps(make_problem, has, answer, gets):
    values, found = run(make_problem({A: has}), answers(**{A: answer}))
    assert values == {A: pytest.approx(gets)}
    assert bool(found[A].change) == (gets != answer)


def test_what_a_slice_keeps_is_said(make_problem):
    _, found = run(make_problem({A: 40.0}), answers(**{A: 5.0}))
    assert found[A].change == "shrinks in steps: transport_bandwidth 20 instead of 5"


def test_a_resource_that_a_slice_never_had_is_as_answered(make_problem):
    _, found = run(make_problem({A: 40.0}), answers(**{A: 5.0}))
    assert found[A].values[CPU] == 900.0


def test_what_is_kept_gives_way_to_those_who_grow(make_problem):
    problem = make_problem({A: 40.0, B: 10.0}, bandwidth=50.0)
    values, _ = run(problem, answers(**{A: 5.0, B: 45.0}))
    assert values == {A: 5.0, B: 45.0}
    values, _ = run(problem, answers(**{A: 5.0, B: 35.0}))
    assert values == {A: pytest.approx(15.0), B: 35.0}


def test_a_slice_that_was_refused_keeps_what_it_has_before_others_keep_more(make_problem):
    problem = make_problem({A: 40.0, B: 40.0}, bandwidth=50.0)
    values, _ = run(problem, answers(**{A: 5.0}))
    assert values == {A: pytest.approx(10.0)}


def test_a_ceiling_that_was_lowered_holds_at_once(make_problem):
    values, _ = run(make_problem({A: 200.0}), answers(**{A: 5.0}))
    assert values == {A: pytest.approx(25.0)}  # half of the ceiling, 50


@settings(max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nothing_is_ever_below_the_answer_or_beyond_bounds_and_capacity(make_problem, data):
    has = {name: data.draw(st.floats(5.0, 50.0)) for name in (A, B)}
    asked = {name: data.draw(st.floats(5.0, 50.0)) for name in (A, B)}
    capacity = sum(asked.values()) * (1.0 + data.draw(SHARE))
    values, _ = run(make_problem(has, capacity), answers(**asked), data.draw(SHARE) * 0.9, 0.3)
    assert all(values[name] >= asked[name] for name in values)
    assert all(values[name] <= max(asked[name], has[name]) + 1e-9 for name in values)
    assert sum(values.values()) <= capacity * (1.0 + 1e-9)
