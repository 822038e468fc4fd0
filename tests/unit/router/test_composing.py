import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from microopt.messages import SliceSolution
from microopt_optimizer.router.composing import composed
from microopt_optimizer.router.guard import Verdict
from microopt_optimizer.router.problem import problem as build_problem

BANDWIDTH, CPU = "transport_bandwidth", "gnb_cpu"
NAMES = ("1", "2", "3")
ACTIVE = dict.fromkeys(NAMES, "one")


@pytest.fixture
def make_problem(make_pool, make_slice, make_forecast):
    def build(current=10.0, capacity=100.0, priorities=(0, 0, 0)):
        slices = {name: make_slice(name, priority=p) for name, p in zip(NAMES, priorities, strict=True)}
        forecasts = {name: make_forecast(name) for name in NAMES}
        pool = make_pool(bandwidth=capacity)
        asked = build_problem(pool, forecasts["1"].interval, forecasts, slices, {}, 1.0, 256, {}, {})
        return replace(asked, slices=[replace(one, current={BANDWIDTH: current}) for one in asked.slices])

    return build


def verdict(refused="", **bandwidth):
    accepted = {
        name: SliceSolution(slice=name, allocation={BANDWIDTH: value, CPU: 500.0}, status="optimal")
        for name, value in bandwidth.items()
    }
    return Verdict(accepted, {name: refused or "wrong" for name in NAMES if name not in accepted})


def bandwidth(found):
    return {name: answer.allocation[BANDWIDTH] for name, answer in found.answers.items()}


def test_each_slice_takes_the_answer_that_it_is_routed_to(make_problem):
    verdicts = {"one": verdict(**{"1": 10.0, "2": 11.0, "3": 12.0}), "two": verdict(**{"1": 20, "2": 21, "3": 22})}
    found = composed(make_problem(), {**ACTIVE, "2": "two"}, verdicts, ["one"])
    assert bandwidth(found) == {"1": 10.0, "2": 21.0, "3": 12.0}
    assert found.optimizers == {"1": "one", "2": "two", "3": "one"}
    assert (found.reverted, found.refused) == ({}, {})


def test_where_the_routed_answer_is_refused_or_absent_the_actives_is_taken_and_it_is_said(make_problem):
    verdicts = {"one": verdict(**{"1": 10.0, "2": 11.0, "3": 12.0}), "two": verdict("late", **{"1": 20.0})}
    wanted = {"1": "two", "2": "two", "3": "three"}
    found = composed(make_problem(), wanted, verdicts, ["one"])
    assert bandwidth(found) == {"1": 20.0, "2": 11.0, "3": 12.0}
    assert found.reverted == {"2": "two: late", "3": "three did not answer"}


def test_answers_that_do_not_fit_together_go_back_to_the_actives_those_first_that_free_most(make_problem):
    verdicts = {"one": verdict(**{"1": 20.0, "2": 20.0, "3": 20.0}), "two": verdict(**{"1": 35.0, "2": 50.0})}
    found = composed(make_problem(capacity=80.0), {"1": "two", "2": "two", "3": "one"}, verdicts, ["one"])
    assert bandwidth(found) == {"1": 35.0, "2": 20.0, "3": 20.0}
    assert found.reverted == {
        "2": f"two: together with the other slices' answers it exceeds the capacity of {BANDWIDTH}"
    }


def test_a_slice_without_an_earlier_answer_keeps_what_it_has_the_lowest_priority_first(make_problem):
    verdicts = {"one": verdict(**{"1": 50.0, "2": 40.0, "3": 20.0})}
    found = composed(make_problem(capacity=100.0, priorities=(2, 1, 0)), ACTIVE, verdicts, ["one"])
    assert bandwidth(found) == {"1": 50.0, "2": 40.0}
    assert "exceeds the capacity" in found.refused["3"]


def test_a_slice_that_is_not_wanted_keeps_what_it_has_and_counts(make_problem):
    verdicts = {"one": verdict(**{"1": 60.0, "2": 30.0, "3": 30.0})}
    found = composed(make_problem(current=25.0, capacity=100.0), {"1": "one", "2": "one"}, verdicts, ["one"])
    assert bandwidth(found) == {"2": 30.0}  # 25 are with 3


def test_what_shrinks_is_taken_even_where_a_lowered_capacity_is_still_exceeded(make_problem):
    verdicts = {"one": verdict(**{"1": 30.0, "2": 30.0})}
    found = composed(make_problem(current=45.0, capacity=100.0), {"1": "one", "2": "one"}, verdicts, ["one"])
    assert bandwidth(found) == {"1": 30.0, "2": 30.0}


def test_a_slice_that_nobody_answers_for_is_refused_with_all_reasons(make_problem):
    verdicts = {"one": verdict("late", **{"1": 1.0}), "two": verdict("absent", **{"1": 1.0, "3": 5.0})}
    found = composed(make_problem(), ACTIVE, verdicts, ["one", "two"])
    assert found.refused == {"2": "one: late; two: absent"}
    assert found.optimizers == {"1": "one", "3": "two"}


@settings(max_examples=200, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_composed_never_exceeds_a_capacity_that_what_slices_have_keeps(make_problem, data):
    value, current = st.floats(0.0, 50.0), data.draw(st.floats(0.0, 30.0))
    verdicts = {
        name: verdict(**{s: data.draw(value) for s in NAMES if data.draw(st.booleans())})
        for name in ("a", "b", "c")
    }
    capacity = 3.0 * current + data.draw(st.floats(0.1, 60.0))
    wanted = {name: data.draw(st.sampled_from("abc")) for name in NAMES if data.draw(st.booleans())}
    found = composed(make_problem(current, capacity), wanted, verdicts, ["a", "b"])
    total = sum(bandwidth(found).get(name, current) for name in NAMES)
    assert total <= capacity * (1.0 + 1e-6)
    assert set(found.answers) | set(found.refused) == set(wanted)
    assert not set(found.answers) & set(found.refused)


def test_slices_that_do_not_have_what_is_short_are_left_alone(make_problem):
    without = SliceSolution(slice="3", allocation={CPU: 500.0}, status="optimal")
    first = verdict(**{"1": 60.0, "2": 60.0})
    verdicts = {"one": Verdict({**first.accepted, "3": without}, {})}
    found = composed(make_problem(capacity=100.0), ACTIVE, verdicts, ["one"])
    assert set(found.answers) == {"2", "3"}
    assert set(found.refused) == {"1"}
