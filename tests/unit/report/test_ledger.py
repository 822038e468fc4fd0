"""The ledger is the sum of the assurances, by day, and compares only what is known."""

from datetime import date, timedelta

import pytest

from microopt.messages import Interval
from microopt_optimizer.report.figures import question, reply
from microopt_optimizer.report.ledger import Stays, former_costs, former_of, ledger
from microopt_optimizer.report.pool_text import ledger_lines


@pytest.fixture
def book(make_assurance):
    def run(assurances, former=None, costs=None):
        since = make_assurance().interval.start - timedelta(days=1)
        stays = Stays("edge", since)
        for one in assurances:
            stays.take(one)
        return ledger("edge", (since, since + timedelta(days=9)), stays.found, former, costs or {})

    return run


def test_days_sum_costs_violations_and_what_is_unknown(book, make_assurance):
    found = book(
        [
            make_assurance(0, cost=1.0, peak_cost=1.5, realised=0.05),
            make_assurance(1, cost=1.2, peak_cost=1.5, realised=0.2, status="NOT_FULFILLED"),
            make_assurance(1, "2", cost=0.5, status="UNKNOWN"),
            make_assurance(24, cost=2.0, peak_cost=2.5, realised=0.1),
        ]
    )
    first, second = (one.sums for one in found.days)
    assert [one.day for one in found.days] == [date(2026, 1, 5), date(2026, 1, 6)]
    assert (first.slice_intervals, first.violations, first.unknown) == (3, 1, 1)
    assert first.cost_h == pytest.approx(2.7)
    assert first.against_peak.others_cost_h == pytest.approx(3.0)
    assert first.saved_against_peak == pytest.approx(1 - 2.2 / 3.0)  # slice 2 has no Peak-alloc
    assert first.worst.realised == 0.2
    assert second.saved_against_peak == pytest.approx(0.2)
    assert found.total.cost_h == pytest.approx(4.7)
    assert found.total.saved_against_peak == pytest.approx(1 - 4.2 / 5.5)
    assert found.total.worst.slice == "1"


def test_costs_are_held_for_the_time_of_their_intervals(book, make_assurance):
    start = make_assurance().interval.start
    short = make_assurance(0, cost=4.0, peak_cost=8.0, interval=Interval(start, 900.0))
    total = book([short, make_assurance(1, cost=1.0, peak_cost=1.0)]).total
    assert total.cost_h == pytest.approx(4.0 / 4 + 1.0)
    assert total.saved_against_peak == pytest.approx(1 - 2.0 / 3.0)


def test_an_interval_counts_once_by_its_last_word(book, make_assurance):
    later = make_assurance(0, epoch=2, cost=3.0, status="NOT_FULFILLED")
    for order in ([make_assurance(0), later], [later, make_assurance(0)]):
        total = book(order).total
        assert (total.slice_intervals, total.cost_h, total.violations) == (1, 3.0, 1)


def test_other_pools_and_earlier_intervals_are_not_of_the_ledger(book, make_assurance):
    assert book([make_assurance(0, pool="core"), make_assurance(-25)]).total.slice_intervals == 0


def test_days_without_anything_are_said_and_are_not_zeros(book, make_assurance):
    found = book([make_assurance(0), make_assurance(72)])
    assert len(found.days) == 2
    assert found.notes == ("2 of the days between have no assurances: is the auditor running?",)


@pytest.mark.parametrize(
    ("actives", "former"),
    [
        ([], None),
        (["a"], None),
        (["a", "a"], None),
        (["a", "b"], "a"),
        (["a", "b", "c", "c"], "b"),
        (["a", "b", "a"], "b"),
    ],
)
def test_the_former_is_the_last_that_is_another_than_the_active(actives, former):
    assert former_of(actives) == former


def test_the_former_is_compared_where_it_answered_the_same_problem(book, make_assurance, make_asked, make_answer):
    asked = [make_asked(n, epoch=5 + n) for n in range(2)]
    questions = {one.problem.id: question(one) for one in asked}
    answers = [
        make_answer(asked[0], "two", {"1": (50.0, 1000.0), "2": (10.0, 500.0)}),
        make_answer(asked[1], "two", {"1": (50.0, 1000.0)}, refused={"1": "below its floor"}),
        make_answer(asked[1], "three", {"1": (1.0, 1.0)}),
    ]
    costs = former_costs(questions, [reply(one, questions[one.problem]) for one in answers], "two")
    assert costs == {(5, "1"): pytest.approx(2.0), (5, "2"): pytest.approx(0.7)}
    found = book([make_assurance(n, epoch=5 + n, cost=1.5) for n in range(2)], "two", costs)
    assert found.total.against_former.slice_intervals == 1
    assert found.total.saved_against_former == pytest.approx(0.25)


def test_what_the_former_allocated_itself_is_not_compared_with_it(book, make_assurance):
    found = book([make_assurance(0, epoch=5, optimizer="two")], "two", {(5, "1"): 3.0})
    assert found.total.saved_against_former is None
    assert any("two, no answers to compare" in line for line in ledger_lines(found))


def test_a_ledger_without_assurances_says_so(book):
    assert list(ledger_lines(book([])))[1] == "no assurances yet: is the auditor running?"
