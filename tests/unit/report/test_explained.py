"""What binds, what it is worth, and what nobody knows."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from microopt.messages import Actuation, Allocation, Event, Forecast
from microopt.specs import Margin, PoolSpec, Sla
from microopt_optimizer.report.explain_text import explain_lines
from microopt_optimizer.report.explained import Facts, binds, bound_of, explain
from microopt_optimizer.report.pool_text import prices_lines
from microopt_optimizer.report.prices import prices


@pytest.fixture
def facts(make_slice, make_asked, make_answer, make_assurance):
    """Return a slice whose answer was kept from shrinking, in a pool that is short of bandwidth."""
    asked = make_asked(epoch=7, threshold=0.08)
    answer = make_answer(asked, "one", {"1": (10.0, 500.0), "2": (60.0, 600.0)}, expected={"1": 0.0799, "2": 0.05})
    first = replace(answer.solution.slices[0], degradation_price=2.5)
    solution = replace(
        answer.solution, slices=[first, answer.solution.slices[1]], capacity_prices={"bw": 0.004, "cpu": 0.0}
    )
    interval, at, traffic = asked.problem.interval, asked.at, asked.problem.slices[0].traffic
    sla = Sla(qos_threshold=4.0, degradation_threshold=0.1)
    allocation = Allocation(
        slice="1", pool="edge", interval=interval, epoch=7, values={"bw": 10.0, "cpu": 500.0},
        answered={"bw": 10.0, "cpu": 500.0}, valid_until=interval.end, optimizer="one", status="optimal",
        problem=asked.problem.id, asked_threshold=0.08, forecast_made_at=at,
    )  # fmt: skip
    report = Actuation(
        slice="1", resource="bw", epoch=7, state="verified", requested=10.0, observed=10.0, driver="tc", at=at
    )
    return Facts(
        spec=make_slice("1", bounds=asked.problem.slices[0].bounds, sla=sla),
        pool=PoolSpec(pool="edge", resources=asked.problem.resources),
        allocation=allocation,
        forecast=Forecast(
            slice="1", interval=interval, traffic=traffic, model="ces", made_at=at, raised_from=1.5
        ),
        margin=Margin(slice="1", degradation_threshold=0.08, judged=50, missed=0.04),
        asked=asked,
        answer=replace(answer, solution=solution),
        actuations={"bw": report},
        assurances=(make_assurance(-1, realised=0.07, expected_degradation=0.08),),
        events=(Event(pool="edge", kind="held", at=at - timedelta(hours=2), slice="1", reason="old forecast"),),
    )  # fmt: skip


def text(facts, mode="apply"):
    return "\n".join(explain_lines(explain(facts, mode)))


def test_an_explanation_says_what_was_expected_asked_given_and_why(facts):
    found = text(facts)
    for said in (
        "epoch 7 by one: optimal, cost 0.7",
        "2.3 users a slot, 95 % of slots at most 3; forecast at 08:00:00 by ces, raised from 1.5",
        "SLA: at most 10.0 % of user-time below 4 Mbit/s",
        "with margins: at most 8.0 % below 4 Mbit/s, by 50 judged intervals, 4.0 % missed",
        "bw 10 Mbit/s; verified by tc, 10 read back",
        "cpu 500 millicores; no actuator has reported",
        "the threshold binds: the slice model expects 8.0 % degradation",
        "bw is scarce, worth 0.004 per Mbit/s; slice 2 is why: it holds most, 60 of 100",
        "07:00:00 realised 7.0 %, expected 8.0 %: FULFILLED, by one",
        "06:00:00 held: old forecast",
        "one percent point less degradation costs about 0.025 (+3.57 %)",
        "one Mbit/s more bw in the pool saves 0.004",
    ):
        assert said in found
    assert "not known" not in found


def test_the_guards_changes_are_shown_with_their_cost_and_void_the_check(facts):
    held = replace(facts.allocation, values={"bw": 20.0, "cpu": 500.0}, changes=("bw 20 instead of 10: in steps",))
    found = explain(replace(facts, allocation=held), "no-shrink")
    assert (found.cost, found.answered_cost) == (pytest.approx(0.9), pytest.approx(0.7))
    assert not found.checked
    said = text(replace(facts, allocation=held), "no-shrink")
    assert "bw 20 Mbit/s, answered 10; verified" in said
    assert "bw 20 instead of 10: in steps" in said
    assert "cost 0.7 → 0.9 by this" in said
    assert "mode now: no-shrink" in said


def test_the_optimizer_says_what_it_said_and_the_guards_changes_are_told_once(facts):
    change = "does not shrink: bw 20 instead of 10"
    held = replace(facts.allocation, values={"bw": 20.0, "cpu": 500.0}, changes=(change,), reason=f"all; {change}")
    said = text(replace(facts, allocation=held))
    assert "one says: all\n" in said
    assert said.count(change) == 1
    assert "one says" not in text(replace(facts, allocation=replace(held, reason=change)))


def test_of_a_stand_in_the_slice_model_and_the_router_tell(facts):
    why = "one: no answer within 1 s"
    stands_in = replace(
        facts.allocation, fallback="last", changes=(why,), reason=f"nothing better is known; {why}",
        expected_degradation=0.079, status="feasible",
    )  # fmt: skip
    mute = replace(facts.answer, solution=None, error="no answer within 1 s", checks=[])
    found = text(replace(facts, allocation=stands_in, answer=mute))
    assert "epoch 7 routed to one: feasible" in found
    assert "the slice model expects 7.9 % degradation\n" in found
    assert "the router says: nothing better is known\n" in found
    assert "by this" not in found
    assert "one expects" not in found
    assert "one says" not in found
    assert "threshold binds" not in found


def test_what_is_held_by_a_mode_was_expected_of_another_interval(facts):
    change = "the route's mode keeps what is in force: frozen"
    held = replace(facts.allocation, fallback="force", changes=(change,), reason=change, expected_degradation=0.03)
    found = text(replace(facts, allocation=held), "frozen")
    assert "3.0 % degradation was expected when it was allocated, for an earlier interval" in found
    assert "threshold binds" not in found
    assert found.count(change) == 1


def test_a_threshold_of_which_nothing_is_known_is_not_said_to_be_loose(facts):
    claimed = replace(facts.allocation, asked_threshold=None, expected_degradation=0.03)
    bare = Facts(spec=facts.spec, pool=facts.pool, allocation=claimed)
    assert "one expects 3.0 % degradation\n" in text(bare)


def test_what_is_not_kept_is_said_and_guessed_by_nobody(facts):
    bare = Facts(spec=facts.spec, pool=facts.pool, allocation=replace(facts.allocation, asked_threshold=None))
    found = explain(bare, "apply")
    assert (found.load, found.expected, found.threshold_binds, found.cost_a_point) == (None, None, None, None)
    assert found.unknown == (
        "its forecast is not kept any more",
        "the problem that was asked is not kept",
        "the optimizer's answer is not kept",
        "no interval of it was judged lately",
    )
    assert "nobody says what degradation is to be expected" in text(bare)


def test_an_infeasible_slice_at_its_ceiling_is_told_what_would_help(facts):
    most = replace(facts.allocation, values={"bw": 50.0, "cpu": 500.0}, status="infeasible", fallback="peak")
    said = text(replace(facts, allocation=most))
    assert "bw is at its ceiling" in said
    assert "a higher ceiling of bw, or a looser SLA" in said
    assert "Peak-alloc stands in" in said


def test_reality_under_a_stand_in_is_not_told_as_the_optimizers(facts, make_assurance):
    found = make_assurance(-1, realised=0.3, status="NOT_FULFILLED", fallback="peak")
    said = text(replace(facts, assurances=(found,)))
    assert "07:00:00 realised 30.0 %: NOT_FULFILLED, by Peak-alloc, which stood in" in said


def test_a_report_of_an_earlier_epoch_is_marked(facts):
    late = replace(facts.actuations["bw"], epoch=6, state="failed", error="no such class", observed=None)
    assert "failed by tc (of an earlier epoch): no such class" in text(replace(facts, actuations={"bw": late}))


@pytest.mark.parametrize(
    ("expected", "threshold", "price", "does"),
    [
        (0.02, 0.1, 0.5, True),
        (0.099, 0.1, 0.0, True),
        (0.097, 0.1, None, False),
        (None, 0.1, None, None),
        (0.05, None, 0.0, None),
    ],
)
def test_a_threshold_binds_when_it_has_a_price_or_is_reached(expected, threshold, price, does):
    assert binds(expected, threshold, price) is does


@pytest.mark.parametrize(("value", "bound"), [(5.0, "floor"), (5.1, ""), (49.9, ""), (50.0, "ceiling")])
def test_bounds_are_named_where_a_value_is_at_them(value, bound):
    assert bound_of(value, 5.0, 50.0) == bound


def test_prices_say_what_is_used_free_and_by_whom(facts):
    other = replace(facts.allocation, slice="2", values={"bw": 60.0, "cpu": 600.0})
    answer = facts.answer
    shorted = replace(answer.solution.slices[1], status="infeasible", reason="too many users")
    answer = replace(answer, solution=replace(answer.solution, slices=[answer.solution.slices[0], shorted]))
    now = facts.allocation.interval.start
    found = prices(facts.pool, "one", {"1": facts.allocation, "2": other}, answer, now)
    bw, cpu = found.capacities
    assert (bw.used, bw.free, bw.price, bw.scarce) == (70.0, 30.0, None, True)
    assert [(one.slice, one.value) for one in bw.most] == [("2", 60.0), ("1", 10.0)]
    assert (cpu.used, cpu.price) == (1100.0, 0.0)
    assert [(one.slice, one.reason) for one in found.shorted] == [("2", "too many users")]
    assert found.notes == ()


def test_prices_are_unknown_without_an_answer_and_old_ones_are_said_to_be(facts):
    now = facts.allocation.interval.end + timedelta(seconds=1)
    found = prices(facts.pool, "one", {"1": facts.allocation}, None, now)
    assert [one.price for one in found.capacities] == [None, None]
    assert "no answer of one is kept: prices are unknown" in found.notes
    assert "allocations expired, counted as they stand: 1" in found.notes
    assert any("over" in note for note in prices(facts.pool, "one", {}, facts.answer, now).notes)


def test_without_prices_nothing_is_said_to_be_plentiful(facts):
    """Peak-alloc and most foreign optimizers give none: unknown is not 0."""
    bare = replace(facts.answer, solution=replace(facts.answer.solution, capacity_prices={}))
    failed = replace(facts.answer, solution=None, error="no answer within 1 s")
    for answer, why in ((bare, "one gives no prices: what is scarce is unknown"), (failed, "no answer within")):
        found = prices(facts.pool, "one", {}, answer, facts.allocation.interval.start)
        said = "\n".join(prices_lines(found))
        assert why in said
        assert "no capacity is scarce" not in said
    free = replace(facts.answer, solution=replace(facts.answer.solution, capacity_prices={"bw": 0.0, "cpu": 0.0}))
    found = prices(facts.pool, "one", {}, free, facts.allocation.interval.start)
    assert "no capacity is scarce: none has a price" in list(prices_lines(found))


def test_of_many_slices_some_are_named_and_the_rest_is_counted(facts):
    names = [f"1-{n:06x}" for n in range(12)]
    allocations = {name: replace(facts.allocation, slice=name) for name in names}
    first = facts.answer.solution.slices[0]
    shorted = [replace(first, slice=name, status="infeasible", reason="too many users") for name in names]
    answer = replace(facts.answer, solution=replace(facts.answer.solution, slices=shorted))
    now = facts.allocation.valid_until + timedelta(seconds=1)
    said = "\n".join(prices_lines(prices(facts.pool, "one", allocations, answer, now)))
    assert f"counted as they stand: {', '.join(names[:10])} and 2 more" in said
    assert said.count("shorted: slice") == 10
    assert "shorted: 2 slices more; --json has all" in said


def test_what_was_on_another_day_is_told_with_its_date(facts, make_assurance):
    day_before = make_assurance(-24, realised=0.07)
    assert "2026-01-04 08:00:00 realised 7.0 %" in text(replace(facts, assurances=(day_before,)))
    now = facts.allocation.interval.start + timedelta(days=3)
    found = prices(facts.pool, "one", {}, facts.answer, now)
    assert "answered at 2026-01-05 08:00:00 UTC" in next(iter(prices_lines(found)))


def test_a_price_that_does_not_clear_a_capacity_is_no_saving(facts):
    """Where slices are shorted the solver's price is a bound of its search, many times what the pool costs."""
    first, second = facts.answer.solution.slices
    slices = [first, replace(second, status="infeasible", reason="too many users")]
    short = replace(facts.answer.solution, slices=slices, capacity_prices={"bw": 60.98, "cpu": 0.0})
    answer = replace(facts.answer, solution=short)
    found = prices(facts.pool, "one", {}, answer, facts.allocation.interval.start)
    assert [(one.price, one.scarce) for one in found.capacities] == [(None, True), (0.0, False)]
    said = "\n".join(prices_lines(found))
    assert "bw is scarce: not all slices can be held to their SLAs" in said
    explained = text(replace(facts, answer=answer))
    assert "bw is scarce: not all SLAs can be held; slice 2 is why: it holds most, 60 of 100" in explained
    for told in (said, explained):
        assert "60.98" not in told
        assert "61" not in told
        assert "no capacity is scarce" not in told
