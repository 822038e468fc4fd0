"""What is kept of a shadow's answer."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from microopt.messages import Interval, Problem, SliceCheck, SliceProblem, SliceSolution, Solution, Traffic
from microopt_optimizer.auditor.answers import (
    BESIDE_BYTES,
    checks,
    fitting,
    is_stale,
    judged,
    shadow_answer,
    usable,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}


@pytest.fixture
def make_problem(make_pool, make_slice):
    def build(count: int = 2) -> Problem:
        spec = make_slice()
        slices = [
            SliceProblem(
                slice=f"1-{n:06x}", sla=spec.sla, traffic=Traffic((3.0,), (1.0,)), bounds=spec.bounds, model="embb"
            )
            for n in range(count)
        ]
        resources = make_pool(bandwidth=1e6, cpu=1e6).resources
        return Problem(pool="edge", interval=Interval(START, 10.0), resources=resources, slices=slices)

    return build


def solution(problem: Problem, values=GOOD) -> Solution:
    slices = [SliceSolution(slice=s.slice, allocation=values, status="optimal") for s in problem.slices]
    return Solution(pool=problem.pool, interval=problem.interval, optimizer="two", slices=slices)


def kept(problem: Problem, given: Solution | None, error: str = ""):
    return shadow_answer(problem, "two", given, error, 0.25, START)


def test_an_answer_quotes_its_problem_and_what_the_guard_refuses(make_problem):
    problem = make_problem()
    found = judged(kept(problem, solution(problem, {**GOOD, "gnb_cpu": 9e9})), problem, [])
    assert (found.problem, found.role, found.latency_s) == (problem.id, "shadow", 0.25)
    assert found.refused == dict.fromkeys(("1-000000", "1-000001"), "gnb_cpu 9e+09 is outside 500 to 4500")


def test_what_the_slice_model_contradicts_is_refused_and_what_nobody_checked_is_not(make_problem):
    problem = make_problem()
    says = [SliceCheck(slice="1-000000", expected_degradation=0.2, outside="gnb_cpu")]
    found = judged(kept(problem, solution(problem)), problem, says)
    assert list(found.refused) == ["1-000000"]
    assert "the slice model expects degradation 0.2000 > 0.1" in found.refused["1-000000"]
    assert found.checks == says


def test_a_failure_is_kept_with_its_reason(make_problem):
    found = kept(make_problem(), None, "x" * 5000)
    assert (found.solution, found.refused, len(found.error)) == (None, {}, 2000)


def test_checks_have_two_hundred_slices_at_most_and_their_part_of_the_problem(make_problem):
    problem = make_problem(450)
    parts = list(checks(problem, solution(problem)))
    assert [len(part.allocations) for part in parts] == [200, 200, 50]
    assert all([s.slice for s in part.problem.slices] == list(part.allocations) for part in parts)
    assert {name for part in parts for name in part.allocations} == {s.slice for s in problem.slices}


def test_only_whole_allocations_of_slices_that_were_asked_about_are_checked(make_problem):
    problem = make_problem(3)
    given = solution(problem)
    strange = SliceSolution(slice="9", allocation=GOOD, status="optimal")
    half = replace(given.slices[0], allocation={"gnb_cpu": 1.0})
    [check] = checks(problem, replace(given, slices=[half, given.slices[1], strange]))
    assert list(check.allocations) == ["1-000001"]
    assert list(checks(problem, replace(given, slices=[]))) == []


def test_what_was_not_asked_about_is_not_taken_from_a_check(make_problem):
    problem = make_problem(1)
    [check] = checks(problem, solution(problem))
    own = SliceCheck(slice="1-000000", expected_degradation=0.1)
    assert usable(check, [own, SliceCheck(slice="9"), own]) == [own]


def test_an_answer_too_large_for_the_bus_loses_checks_first_then_the_solution(make_problem):
    problem = make_problem(100)
    bare = kept(problem, solution(problem))
    full = replace(bare, checks=[SliceCheck(slice=s.slice, expected_degradation=0.1) for s in problem.slices])
    size = len(msgspec.json.encode(full)) + BESIDE_BYTES
    assert fitting(full, size) == full
    assert fitting(full, size - 1) == bare
    tiny = fitting(full, BESIDE_BYTES + 600)
    assert tiny.solution is None
    assert "bytes" in tiny.error


def test_a_problem_is_stale_once_its_interval_is_over_by_more_than_is_allowed(make_problem):
    problem, over = make_problem(), START + timedelta(seconds=10)
    assert not is_stale(problem, over, 0.0)
    assert is_stale(problem, over + timedelta(seconds=1), 0.0)
    assert not is_stale(problem, over + timedelta(seconds=1), 2.0)
