"""Costs are recomputed, and quantiles are values that were seen."""

import pytest
from msgspec.structs import replace

from microopt.messages import SliceSolution, Traffic
from microopt_optimizer.report.figures import cost_of, quantile, question, reply, users_quantile
from microopt_optimizer.report.words import number, percent, signed, table


def test_a_cost_is_the_allocation_by_its_weights():
    assert cost_of({"bw": 10.0, "cpu": 500.0}, {"bw": 0.02, "cpu": 0.001}) == pytest.approx(0.7)


def test_an_allocation_of_a_resource_without_a_weight_has_no_cost():
    with pytest.raises(KeyError):
        cost_of({"gpu": 1.0}, {"bw": 0.02})


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 2.0), (0.75, 3.0), (0.76, 4.0), (0.95, 4.0), (0.25, 1.0), (0.0, 1.0), (1.0, 4.0)]
)
def test_a_quantile_is_the_least_value_that_the_share_does_not_exceed(share, value):
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == value


def test_nothing_has_no_quantile():
    assert quantile([], 0.5) is None


@pytest.mark.parametrize(("share", "users"), [(0.5, 1.0), (0.51, 3.0), (0.95, 3.0), (0.96, 9.0), (1.0, 9.0)])
def test_a_quantile_of_users_is_that_of_the_weights(share, users):
    assert users_quantile(Traffic((9.0, 1.0, 3.0), (0.05, 0.5, 0.45)), share) == users


def test_a_reply_has_the_costs_of_what_was_answered_whole_and_not_refused(make_asked, make_answer):
    asked = make_asked(slices=("1", "2", "3"))
    answer = make_answer(
        asked, "two", {"1": (10.0, 500.0), "2": (10.0, 500.0), "9": (1.0, 1.0)}, refused={"2": "too little"},
        expected={"1": 0.07},
    )  # fmt: skip
    half = SliceSolution(slice="3", allocation={"bw": 10.0}, status="optimal", cost=0.01)
    answer = replace(answer, solution=replace(answer.solution, slices=[*answer.solution.slices, half]))
    found = reply(answer, question(asked))
    assert found.costs == {"1": pytest.approx(0.7)}
    assert (found.refused, found.failed, found.expected) == (1, False, {"1": 0.07})


def test_an_answer_without_a_solution_is_a_failure_that_costs_nothing(make_asked, make_answer):
    asked = make_asked()
    found = reply(make_answer(asked, "two", error="late"), question(asked))
    assert found.failed
    assert not found.costs


def test_tables_are_aligned_and_numbers_are_flush_right():
    assert table(("name", "n"), [["a", "10"], ["longer", "2"]]) == ["name     n", "a       10", "longer   2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (0.71234, "0.7123"), (123456.0, "123456"), (0.00002, "2e-05"), (12.0, "12")],
)
def test_numbers_are_short_and_unknown_is_a_dash(value, text):
    assert number(value) == text


def test_percents_and_signs():
    assert percent(0.0812) == "8.1 %"
    assert percent(None) == "-"
    assert [signed(0.5), signed(-0.5), signed(None)] == ["+0.5", "−0.5", "-"]
