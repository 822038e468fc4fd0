"""A changed problem keeps the margins, and everything that was not to change."""

import pytest
from msgspec.structs import replace

from microopt.errors import ConfigError
from microopt.messages import Interval, Traffic
from microopt.specs import Margin, PoolSpec, Sla
from microopt_optimizer.report.whatif import (
    Change,
    built,
    changed,
    cost_a_point,
    one_of,
    outcome,
    shorted,
    tightened,
)


@pytest.fixture
def spec(make_slice, make_asked):
    bounds = make_asked().problem.slices[0].bounds
    return make_slice("1", bounds=bounds, qos_margin=0.1, sla=Sla(qos_threshold=4.0, degradation_threshold=0.1))


@pytest.fixture
def problem(make_asked, spec):
    """Return a problem as the router asks it: 10 % margin on the QoS, adaptive margin to 8 % degradation."""
    found = make_asked().problem
    sla = replace(spec.sla.tightened(0.1), degradation_threshold=0.08)
    return replace(found, slices=[replace(found.slices[0], sla=sla), found.slices[1]])


def test_thresholds_change_with_the_margins_that_are_in_force(problem, spec):
    asked = changed(problem, "1", Change(qos_threshold=5.0, degradation_threshold=0.2), spec)
    assert one_of(asked, "1").sla.qos_threshold == pytest.approx(5.5)
    assert one_of(asked, "1").sla.degradation_threshold == pytest.approx(0.16)


def test_the_margin_on_the_qos_is_the_one_that_was_learned_in_place_of_the_slices_own(problem, spec):
    slices = [replace(one, sla=spec.sla.tightened(-0.05)) for one in problem.slices[:1]]
    asked = changed(replace(problem, slices=slices), "1", Change(qos_threshold=5.0), spec)
    assert one_of(asked, "1").sla.qos_threshold == pytest.approx(4.75)


def test_a_qos_of_which_less_is_better_is_tightened_downwards(problem, spec):
    low = replace(spec.sla, higher_is_better=False)
    slices = [replace(problem.slices[0], sla=low.tightened(0.1))]
    asked = changed(replace(problem, slices=slices), "1", Change(qos_threshold=5.0), replace(spec, sla=low))
    assert one_of(asked, "1").sla.qos_threshold == pytest.approx(4.5)


def test_what_is_not_to_change_stays(problem, spec):
    asked = changed(problem, "1", Change(users=7.0), spec)
    assert one_of(asked, "1") == replace(problem.slices[0], traffic=Traffic((7.0,), (1.0,)))
    assert asked.slices[1] == problem.slices[1]
    assert replace(asked, slices=problem.slices) == problem


def test_a_threshold_stays_one_whatever_the_margin(problem, spec):
    loose = replace(problem.slices[0], sla=replace(problem.slices[0].sla, degradation_threshold=0.4))
    asked = changed(replace(problem, slices=[loose]), "1", Change(degradation_threshold=0.9), spec)
    assert 0.99 < one_of(asked, "1").sla.degradation_threshold < 1.0


def test_tightening_is_by_a_twentieth_of_what_is_asked(problem):
    assert one_of(tightened(problem, "1"), "1").sla.degradation_threshold == pytest.approx(0.076)


def test_a_slice_that_was_not_asked_is_said(problem):
    with pytest.raises(ConfigError, match="slice 7: not in problem"):
        one_of(problem, "7")


def test_costs_are_recomputed_and_a_point_has_its_price(problem, make_asked, make_answer):
    asked = make_asked()
    answer = make_answer(asked, "one", {"1": (10.0, 500.0), "2": (20.0, 600.0)}).solution
    then = outcome(problem, answer, "1")
    assert (then.cost, then.pool_cost) == (pytest.approx(0.7), pytest.approx(1.7))
    tighter = replace(then, degradation_threshold=0.076, pool_cost=1.72)
    assert cost_a_point(then, tighter) == pytest.approx(0.02 / 0.4)
    assert cost_a_point(then, replace(tighter, status="infeasible")) is None


def test_an_optimizer_that_leaves_the_slice_out_is_named(problem, make_asked, make_answer):
    with pytest.raises(ConfigError, match="optimizer one gave no answer for slice 1"):
        outcome(problem, make_answer(make_asked(), "one", {"2": (20.0, 600.0)}).solution, "1")


def test_without_a_problem_one_is_built_from_spec_forecast_and_margin(spec, problem, make_forecast):
    pool = PoolSpec(pool="edge", resources=problem.resources)
    interval = Interval(make_forecast().interval.start, 3600.0)
    margin = Margin(slice="1", degradation_threshold=0.06, qos_margin=-0.05)
    made = built(pool, spec, make_forecast("1", users=2.0), interval, margin, None)
    one = one_of(made, "1")
    assert (one.sla.qos_threshold, one.sla.degradation_threshold) == (pytest.approx(3.8), 0.06)
    assert one.traffic == Traffic((2.0,), (1.0,))
    assert built(pool, spec, None, interval, None, 5.0).slices[0].traffic.mean == 5.0
    with pytest.raises(ConfigError, match="give --users"):
        built(pool, spec, None, interval, None, None)


def test_only_others_that_were_held_before_are_shorted(make_asked, make_answer):
    asked = make_asked(slices=("1", "2", "3", "4"))
    before = make_answer(asked, "one", dict.fromkeys("1234", (10.0, 500.0))).solution
    worse = {"1", "2", "3"}
    then = replace(before, slices=[_infeasible(one) if one.slice in worse else one for one in before.slices])
    before = replace(before, slices=[_infeasible(one) if one.slice == "3" else one for one in before.slices])
    assert shorted(before, then, "1") == ("2",)


def _infeasible(one):
    return replace(one, status="infeasible")
