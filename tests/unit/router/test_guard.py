import pytest
from msgspec.structs import replace

from microopt.messages import SliceSolution, Solution
from microopt_optimizer.router import guard
from microopt_optimizer.router.problem import problem as build_problem

GOOD = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}
BOTH = ("1-000001", "2")


@pytest.fixture
def problem(make_pool, make_slice, make_forecast):
    slices = {name: make_slice(name) for name in BOTH}
    forecasts = {name: make_forecast(name) for name in BOTH}
    interval = forecasts["2"].interval
    return build_problem(make_pool(bandwidth=60.0), interval, forecasts, slices, {}, 1.0, 256, {}, {})


def answer(problem, *slices, optimizer="microopt"):
    return Solution(pool=problem.pool, interval=problem.interval, optimizer=optimizer, slices=list(slices))


def solved(name, status="optimal", **values):
    return SliceSolution(slice=name, allocation={**GOOD, **values}, status=status, expected_degradation=0.1)


def test_answers_within_bounds_and_capacity_are_accepted(problem):
    verdict = guard.check(problem, answer(problem, *(solved(n) for n in BOTH)))
    assert set(verdict.accepted) == set(BOTH)
    assert verdict.refused == {}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"gnb_cpu": 499.0}, "gnb_cpu 499 is outside 500 to 4500"),
        ({"gnb_cpu": 1e9}, "gnb_cpu 1e+09 is outside"),
        ({"gnb_cpu": float("nan")}, "gnb_cpu nan is outside"),
        ({"gnb_cpu": float("inf")}, "gnb_cpu inf is outside"),
        ({"disk": 1.0}, "the slice has"),
    ],
)
def test_a_wrong_value_costs_that_slice_its_answer_and_no_other(problem, values, why):
    verdict = guard.check(problem, answer(problem, solved("1-000001", **values), solved("2")))
    assert set(verdict.accepted) == {"2"}
    assert list(verdict.refused) == ["1-000001"]
    assert why in verdict.refused["1-000001"]


def test_more_than_the_capacity_is_refused_as_a_whole(problem):
    over = [solved(n, transport_bandwidth=30.1) for n in BOTH]
    verdict = guard.check(problem, answer(problem, *over))
    assert verdict.accepted == {}
    assert "together 60.2 Mbit/s of transport_bandwidth, capacity left is 60" in verdict.refused["2"]


def test_rounding_at_a_bound_is_put_right(problem):
    verdict = guard.check(problem, answer(problem, solved("2", gnb_cpu=500.0 - 1e-7)))
    assert verdict.accepted["2"].allocation["gnb_cpu"] == 500.0


def test_a_missing_answer_is_refused_and_the_other_used(problem):
    verdict = guard.check(problem, answer(problem, solved("2")))
    assert verdict.refused == {"1-000001": "not answered"}


def test_an_answer_for_a_slice_that_was_not_asked_is_ignored_and_named(problem):
    verdict = guard.check(problem, answer(problem, solved("2"), solved("7")))
    assert verdict.strangers == ("7",)
    assert set(verdict.accepted) == {"2"}


def test_a_slice_answered_twice_makes_the_answer_useless(problem):
    verdict = guard.check(problem, answer(problem, solved("2"), solved("2", gnb_cpu=600.0)))
    assert verdict.accepted == {}


def test_an_answer_for_another_pool_or_interval_is_refused_whoever_gave_it(problem):
    assert set(guard.check(problem, answer(problem, solved("2"), optimizer="peak")).accepted) == {"2"}
    for wrong in (
        replace(answer(problem, solved("2")), pool="core"),
        replace(answer(problem, solved("2")), interval=replace(problem.interval, duration_s=9.0)),
    ):
        assert guard.check(problem, wrong).accepted == {}


def test_a_claim_to_be_feasible_above_the_threshold_is_refused_but_declared_infeasible_is_used(problem):
    claim = replace(solved("2"), expected_degradation=0.11)
    assert "expected degradation 0.1100 > 0.1" in guard.check(problem, answer(problem, claim)).refused["2"]
    declared = replace(claim, status="infeasible")
    assert set(guard.check(problem, answer(problem, declared)).accepted) == {"2"}


def test_the_reason_of_a_slice_that_could_not_be_solved_is_passed_on(problem):
    unsolved = SliceSolution(slice="2", allocation={}, status="infeasible", reason="model embb: cut off")
    assert guard.check(problem, answer(problem, unsolved)).refused["2"] == "not solved: model embb: cut off"


def test_what_a_refused_slice_keeps_counts_against_the_capacity(problem):
    keeping = [replace(one, current={"transport_bandwidth": 45.0, "gnb_cpu": 500.0}) for one in problem.slices]
    asked = replace(problem, slices=keeping)
    alone = answer(asked, solved("2", transport_bandwidth=20.0))
    verdict = guard.check(asked, alone)
    assert verdict.accepted == {}
    assert "together 65 Mbit/s of transport_bandwidth, capacity left is 60" in verdict.refused["2"]
    assert verdict.refused["1-000001"] == "not answered"
    assert set(guard.check(asked, answer(asked, solved("2", transport_bandwidth=15.0))).accepted) == {"2"}
