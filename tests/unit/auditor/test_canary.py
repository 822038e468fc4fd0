"""When a canary is promoted, when it is rolled back, and what the route is then."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from microopt.messages import Answer, Assurance, Interval, SliceSolution, Solution
from microopt.specs import Canary, Criteria, Route
from microopt_optimizer.auditor.canary import Evidence, followed, judge

START = datetime(2026, 1, 1, tzinfo=UTC)
ROUTE = Route(
    pool="edge",
    active="old",
    shadows=("new", "third"),
    fallbacks=("peak",),
    exceptions={"3": "third"},
    canary=Canary(optimizer="new", slices=("1", "2", "3"), intervals=4, since=START),
)


def interval(n: int) -> Interval:
    return Interval(START + timedelta(seconds=10 * n), 10.0)


def answer(n: int, role: str, cpu: float = 4500.0, **changes) -> Answer:
    optimizer = "new" if role == "canary" else "old"
    values = {"gnb_cpu": cpu, "transport_bandwidth": 0.0}
    # Slice 3 is an exception, 4 is nobody's: what they cost must not matter.
    dear = {"gnb_cpu": 4500.0 if role == "active" else 1e9, "transport_bandwidth": 0.0}
    slices = [
        SliceSolution(slice=name, allocation=values if name in "12" else dear, status="optimal") for name in "1234"
    ]
    fields = {
        "pool": "edge",
        "interval": interval(n),
        "problem": f"problem-{n}",
        "optimizer": optimizer,
        "role": role,
        "at": interval(n).start,
        "solution": Solution(pool="edge", interval=interval(n), optimizer=optimizer, slices=slices),
        "latency_s": 0.2,
    }
    return Answer(**{**fields, **changes})


def assurance(n: int, slice_: str, status: str = "FULFILLED", **changes) -> Assurance:
    fields = {
        "slice": slice_,
        "pool": "edge",
        "interval": interval(n),
        "epoch": n + 1,
        "optimizer": "new",
        "status": status,
        "degradation_threshold": 0.1,
        "cost": 1.0,
        "at": interval(n).end,
    }
    return Assurance(**{**fields, **changes})


@pytest.fixture
def evidence(make_pool):
    """Gather evidence of `count` intervals; functions of the interval's number change it."""

    def gather(count=4, route=ROUTE, canary=lambda n: {}, status=lambda n: "FULFILLED", active=True) -> Evidence:
        found = Evidence()
        for n in range(count):
            found.hear(answer(n, "canary", **canary(n)), route, make_pool())
            if active:
                found.hear(answer(n, "active"), route, make_pool())
            for name in ("1", "2"):
                found.see(assurance(n, name, status(n)), route)
        return found

    return gather


def test_a_canary_that_keeps_all_criteria_is_promoted_and_each_is_quoted(evidence):
    judgement = judge(ROUTE, evidence(canary=lambda n: {"cpu": 4050.0}))
    assert judgement.promote
    assert judgement.reason == (
        "canary new promoted after 4 intervals: cost 0.9 of old's on 4 problems (limit 1.01): kept; "
        "unfulfilled 0 of 8 = 0 (limit 0.1): kept; failures 0 of 4 = 0 (limit 0.05): kept; "
        "latency 0.2 s at 95 % (limit 1): kept"
    )


def test_before_its_intervals_are_judged_nothing_is_decided(evidence):
    assert judge(ROUTE, evidence(3)) is None
    assert judge(replace(ROUTE, canary=None), evidence()) is None


def test_what_costs_more_on_the_same_problems_is_rolled_back(evidence):
    judgement = judge(ROUTE, evidence(canary=lambda n: {"cpu": 4590.0}))
    assert not judgement.promote
    assert "cost 1.02 of old's on 4 problems (limit 1.01): missed" in judgement.reason


def test_problems_that_only_one_of_them_answered_are_not_compared(evidence, make_pool):
    found = evidence(canary=lambda n: {"problem": "elsewhere"} if n else {})
    found.hear(answer(9, "active", cpu=1.0), ROUTE, make_pool())
    assert "cost 1 of old's on 1 problems" in judge(ROUTE, found).reason


def test_without_anything_to_compare_a_canary_is_not_promoted(evidence):
    judgement = judge(ROUTE, evidence(active=False))
    assert not judgement.promote
    assert "cost not to be compared with old's (limit 1.01): missed" in judgement.reason


def test_too_many_missed_slas_roll_back(evidence):
    judgement = judge(ROUTE, evidence(status=lambda n: "NOT_FULFILLED" if n == 3 else "FULFILLED"))
    assert not judgement.promote
    assert "unfulfilled 2 of 8 = 0.25 (limit 0.1): missed" in judgement.reason


def test_intervals_in_which_the_canary_did_not_rule_are_not_its(evidence):
    found = evidence()
    for n in range(4):
        found.see(assurance(n, "2", "NOT_FULFILLED", optimizer="old"), ROUTE)
    judgement = judge(ROUTE, found)
    assert judgement.promote
    assert "unfulfilled 0 of 4" in judgement.reason


def test_slas_that_were_missed_under_a_stand_in_are_not_the_canarys(evidence):
    found = evidence()
    for n in range(2):
        found.see(assurance(n, "1", "NOT_FULFILLED", fallback="peak"), ROUTE)
    judgement = judge(ROUTE, found)
    assert judgement.promote
    assert "unfulfilled 0 of 6 = 0 (limit 0.1): kept" in judgement.reason


def test_a_canary_that_never_ruled_is_not_promoted(evidence):
    found = evidence()
    for n in range(4):
        for name in ("1", "2"):
            found.see(assurance(n, name, optimizer="old"), ROUTE)
    judgement = judge(ROUTE, found)
    assert not judgement.promote
    assert "unfulfilled 0 of 0 (limit 0.1): missed" in judgement.reason


def test_what_stood_in_for_the_canarys_answers_is_not_its(evidence):
    found = evidence(status=lambda n: "NOT_FULFILLED" if n == 3 else "FULFILLED")
    for n in range(3):
        found.see(assurance(n, "1", fallback="peak"), ROUTE)
    assert "unfulfilled 2 of 5 = 0.4 (limit 0.1): missed" in judge(ROUTE, found).reason


def test_unknown_intervals_are_not_judged(evidence):
    assert judge(ROUTE, evidence(status=lambda n: "UNKNOWN" if n == 2 else "FULFILLED")) is None


def test_a_slow_canary_is_rolled_back(evidence):
    judgement = judge(ROUTE, evidence(canary=lambda n: {"latency_s": 1.5 if n == 1 else 0.1}))
    assert not judgement.promote
    assert "latency 1.5 s at 95 % (limit 1): missed" in judgement.reason


def test_a_canary_that_fails_is_rolled_back_before_its_time(evidence):
    route = replace(ROUTE, canary=replace(ROUTE.canary, intervals=24))
    found = evidence(3, route, canary=lambda n: {"solution": None, "error": "no answer within 1 s"} if n else {})
    judgement = judge(route, found)
    assert not judgement.promote
    assert judgement.reason.startswith(
        "canary new rolled back after 3 of 24 intervals, as it cannot keep failures: cost 1"
    )
    assert "failures 2 of 3 = 0.667 (limit 0.05): missed" in judgement.reason


def test_early_means_certain_and_not_before_three_intervals(evidence):
    lenient = replace(ROUTE.canary, intervals=24, criteria=Criteria(failures=2 / 24))
    route = replace(ROUTE, canary=lenient)

    def failing(n):
        return {"solution": None, "error": "absent"}

    assert judge(route, evidence(2, route, canary=failing)) is None
    assert judge(route, evidence(3, route, canary=lambda n: failing(n) if n else {})) is None
    assert judge(route, evidence(3, route, canary=failing)) is not None


def test_missed_slas_that_no_later_interval_makes_good_end_it_early(evidence):
    route = replace(ROUTE, canary=replace(ROUTE.canary, intervals=20))
    judgement = judge(route, evidence(3, route, status=lambda n: "NOT_FULFILLED"))
    assert "as it cannot keep unfulfilled" in judgement.reason


def test_an_absent_canary_ends_although_telemetry_tells_nothing(evidence):
    judgement = judge(
        ROUTE, evidence(3, canary=lambda n: {"solution": None, "error": "absent"}, status=lambda n: "UNKNOWN")
    )
    assert not judgement.promote


def test_refusals_count_on_the_canarys_slices_alone(evidence):
    assert judge(ROUTE, evidence(canary=lambda n: {"refused": {"4": "too much", "3": "too much"}})).promote
    refused = judge(ROUTE, evidence(canary=lambda n: {"refused": {"1": "too much"}}))
    assert "failures 4 of 4 = 1 (limit 0.05): missed" in refused.reason


def test_what_was_before_the_canary_was_set_does_not_count(evidence):
    late = replace(ROUTE, canary=replace(ROUTE.canary, since=START + timedelta(seconds=25)))
    found = evidence(4, late)
    assert (found.judged, found.answers) == (1, 1)


def test_what_is_of_other_pools_and_optimizers_does_not_count(make_pool):
    found = Evidence()
    found.hear(answer(0, "canary", pool="core"), ROUTE, make_pool())
    found.hear(answer(0, "canary", optimizer="third"), ROUTE, make_pool())
    found.hear(answer(0, "shadow"), ROUTE, make_pool())
    found.see(assurance(0, "1", pool="core"), ROUTE)
    assert (found.answers, found.compared, found.fulfilled) == (0, {}, {})


def test_a_promoted_canary_is_active_and_the_former_active_its_first_fallback(evidence):
    judgement = judge(ROUTE, evidence())
    route = followed(ROUTE, judgement, START)
    assert (route.active, route.canary, route.fallbacks) == ("new", None, ("old", "peak"))
    assert (route.shadows, route.exceptions) == (("third",), {"3": "third"})
    assert (route.changed_by, route.changed_at, route.reason) == ("auditor", START, judgement.reason)


def test_a_fallback_that_is_promoted_stands_once_in_the_route(evidence):
    route = replace(ROUTE, fallbacks=("new", "old", "peak"))
    assert followed(route, judge(route, evidence()), START).fallbacks == ("old", "peak")


def test_a_rolled_back_canary_leaves_the_route_as_it_was(evidence):
    judgement = judge(ROUTE, evidence(active=False))
    expected = replace(ROUTE, canary=None, changed_by="auditor", changed_at=START, reason=judgement.reason)
    assert followed(ROUTE, judgement, START) == expected
