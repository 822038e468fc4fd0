from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from microopt.messages import Allocation, Interval, SliceCheck, SliceSolution
from microopt_optimizer.router import judging, standby
from microopt_optimizer.router.guard import Verdict
from microopt_optimizer.router.problem import problem as build_problem

BANDWIDTH, CPU = "transport_bandwidth", "gnb_cpu"
ANSWER = SliceSolution(
    slice="1", allocation={BANDWIDTH: 10.0, CPU: 900.0}, status="optimal", expected_degradation=0.05
)
PEAK = {BANDWIDTH: 50.0, CPU: 4500.0}


@pytest.fixture
def specs(make_slice):
    return {"1": make_slice("1", peak_allocation=PEAK)}


@pytest.fixture
def problem(make_pool, specs, make_forecast):
    forecast = make_forecast("1")
    return build_problem(
        make_pool(bandwidth=60.0), forecast.interval, {"1": forecast}, specs, {}, 1.0, 256, {}, {}
    )


def allocated(values):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return Allocation(
        slice="1",
        pool="edge",
        interval=Interval(start, 2.0),
        epoch=3,
        values=values,
        valid_until=start,
        optimizer="one",
        status="optimal",
    )


def judged(problem, answer=ANSWER, check=None, policy="required", envelope="say"):
    checks = {} if check is None else {"1": check}
    return judging.judged(problem, Verdict({"1": answer}, {}), checks, policy, envelope)


def says(degradation, **more):
    return SliceCheck(slice="1", expected_degradation=degradation, **more)


def test_what_the_slice_model_says_takes_the_place_of_the_claim(problem):
    assert judged(problem, check=says(0.0999)).accepted["1"].expected_degradation == 0.0999


def test_a_claim_that_the_slice_model_contradicts_is_refused(problem):
    verdict = judged(problem, check=says(0.11))
    assert verdict.accepted == {}
    assert verdict.refused["1"] == ("claims optimal, but the slice model expects degradation 0.1100 > 0.1 there")
    declared = replace(ANSWER, status="infeasible")
    assert judged(problem, declared, says(0.11)).accepted["1"].expected_degradation == 0.11


def test_what_nobody_could_check_is_refused_unless_that_is_allowed(problem):
    for check in (None, SliceCheck(slice="1", error="no such model")):
        assert "cannot be checked" in judged(problem, check=check).refused["1"]
        assert judged(problem, check=check, policy="if-possible").accepted == {"1": ANSWER}
    assert "no such model" in judged(problem, check=SliceCheck(slice="1", error="no such model")).refused["1"]


def test_outside_of_the_trained_range_is_refused_where_that_is_set(problem):
    check = says(0.05, outside="users 9 > 5")
    assert set(judged(problem, check=check).accepted) == {"1"}
    assert "users 9 > 5" in judged(problem, check=check, envelope="refuse").refused["1"]


def test_who_declares_an_sla_infeasible_that_free_capacity_would_hold_is_refused(problem):
    room = judging.room_for(problem, {"1": ANSWER.allocation})
    assert room == {"1": {BANDWIDTH: 50.0, CPU: 4500.0}}  # its ceilings: all of the pool is free
    declared = replace(ANSWER, status="infeasible")
    assert "are free and hold it" in judging.false_alarm(declared, says(0.05), 0.1, room["1"])
    assert judging.false_alarm(declared, says(0.2), 0.1, room["1"]) == ""
    assert judging.false_alarm(declared, None, 0.1, room["1"]) == ""
    assert judging.false_alarm(ANSWER, says(0.05), 0.1, room["1"]) == ""
    assert judging.false_alarm(declared, says(0.05), 0.1, ANSWER.allocation) == ""


def stand_in(problem, specs, last, checks):
    options = standby.candidates(problem, specs, {"1": last})
    return standby.verdicts(problem, options, checks)


def test_the_last_allocation_stands_in_where_it_still_holds_else_peak_alloc(problem, specs):
    last = allocated({BANDWIDTH: 20.0, CPU: 9000.0})
    found = stand_in(problem, specs, last, {standby.LAST: {"1": says(0.05)}, standby.PEAK: {"1": says(0.01)}})
    assert found[standby.LAST].accepted["1"].allocation == {BANDWIDTH: 20.0, CPU: 4500.0}  # within its bounds
    assert found[standby.LAST].accepted["1"].status == "feasible"
    found = stand_in(problem, specs, last, {standby.LAST: {"1": says(0.3)}, standby.PEAK: {"1": says(0.01)}})
    assert found[standby.LAST].refused["1"] == "the slice model expects degradation 0.3000 > 0.1"
    assert found[standby.PEAK].accepted["1"].allocation == PEAK


def test_without_peak_alloc_the_last_allocation_stands_in_whatever_it_holds(problem, make_slice):
    last = allocated({BANDWIDTH: 20.0, CPU: 900.0})
    found = stand_in(problem, {"1": make_slice("1")}, last, {})
    assert found[standby.LAST].accepted["1"].status == "infeasible"
    assert "cannot be checked" in found[standby.LAST].accepted["1"].reason
    assert stand_in(problem, {"1": make_slice("1")}, None, {})[standby.LAST].accepted == {}
