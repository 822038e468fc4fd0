"""Optimizers are compared on identical inputs only, and what is unknown is not a number."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from microopt_optimizer.report.figures import question, reply
from microopt_optimizer.report.pool_text import scorecard_lines
from microopt_optimizer.report.scorecard import realities, scorecard, stood_in


@pytest.fixture
def score(make_asked):
    """Return the scorecard of answers to what was asked in some hours."""

    def run(asked, answers, compared=(), reality=None):
        asked = list(asked)
        questions = {one.problem.id: question(one) for one in asked}
        replies = [reply(answer, questions[answer.problem]) for answer in answers]
        window = (asked[0].at, asked[-1].at + timedelta(hours=1))
        return scorecard("edge", window, "one", questions, replies, reality or {}, compared)

    return run


def of(card, name):
    return next(one for one in card.scores if one.optimizer == name)


def test_only_problems_that_all_answered_count_in_the_paired_figures(score, make_asked, make_answer):
    first, second = make_asked(0), make_asked(1)
    dear, cheap = {"1": (10.0, 500.0), "2": (20.0, 600.0)}, {"1": (5.0, 400.0), "2": (10.0, 700.0)}
    card = score(
        [first, second],
        [
            make_answer(first, "one", dear, role="active"),
            make_answer(first, "two", cheap),
            make_answer(second, "one", {"1": (50.0, 4000.0), "2": (50.0, 4000.0)}, role="active"),
        ],
    )
    assert (card.problems, card.paired_problems, card.paired_slices) == (2, 1, 2)
    assert of(card, "one").cost == pytest.approx(0.7 + 1.0)
    assert of(card, "two").cost == pytest.approx(0.5 + 0.9)
    assert of(card, "two").cost_ratio == pytest.approx(1.4 / 1.7)
    assert (of(card, "one").answers, of(card, "two").answers) == (2, 1)
    assert "all of one, two answered 1 of 2 problems (2 slice answers each)" in "\n".join(scorecard_lines(card))


def test_a_slice_that_one_left_out_or_had_refused_makes_nobody_cheaper(score, make_asked, make_answer):
    asked = make_asked(slices=("1", "2", "3"))
    all_three = {"1": (10.0, 500.0), "2": (10.0, 500.0), "3": (10.0, 500.0)}
    card = score(
        [asked],
        [
            make_answer(asked, "one", all_three, role="active"),
            make_answer(asked, "two", {"1": (10.0, 500.0), "3": (5.0, 100.0)}, refused={"3": "does not hold"}),
        ],
    )
    assert card.paired_slices == 1
    assert of(card, "two").cost_ratio == pytest.approx(1.0)
    assert of(card, "two").refused_slices == 1


def test_the_claimed_cost_is_not_believed(score, make_asked, make_answer):
    asked = make_asked(slices=("1",))
    answer = make_answer(asked, "one", {"1": (10.0, 500.0)}, role="active")
    assert answer.solution.slices[0].cost == 0.0
    assert of(score([asked], [answer]), "one").cost == pytest.approx(0.7)


def test_degradation_is_the_checks_word_and_above_is_by_the_threshold_that_was_asked(
    score, make_asked, make_answer
):
    first, second = make_asked(0, threshold=0.1), make_asked(1, threshold=0.05)
    values = {"1": (10.0, 500.0), "2": (10.0, 500.0)}
    card = score(
        [first, second],
        [
            make_answer(first, "one", values, role="active", expected={"1": 0.08, "2": 0.12}),
            make_answer(second, "one", values, role="active", expected={"1": 0.08}),
        ],
    )
    one = of(card, "one")
    assert one.checked == 3
    assert one.expected_degradation == pytest.approx((0.08 + 0.12 + 0.08) / 3)
    assert one.above == pytest.approx(2 / 3)


def test_what_the_router_takes_for_rounding_is_not_above(score, make_asked, make_answer):
    """An optimum lies at its threshold, and two workers do not sum in the same order."""
    asked = make_asked(threshold=0.1)
    values = {"1": (10.0, 500.0), "2": (10.0, 500.0)}
    expected = {"1": 0.1 + 1e-9, "2": 0.1001}
    card = score([asked], [make_answer(asked, "one", values, role="active", expected=expected)])
    assert of(card, "one").above == 0.5


def test_without_checks_nothing_is_said_of_degradation(score, make_asked, make_answer):
    asked = make_asked()
    one = of(score([asked], [make_answer(asked, "one", {"1": (10.0, 500.0)}, role="active")]), "one")
    assert (one.expected_degradation, one.above, one.checked) == (None, None, 0)


def test_failures_and_absences_are_counted_apart(score, make_asked, make_answer):
    asked = [make_asked(n, shadows=("two",)) for n in range(3)]
    values = {"1": (10.0, 500.0), "2": (10.0, 500.0)}
    answers = [make_answer(one, "one", values, role="active") for one in asked]
    answers += [make_answer(asked[0], "two", values), make_answer(asked[1], "two", error="no answer within 1 s")]
    two = of(score(asked, answers), "two")
    assert (two.answers, two.failures, two.absent) == (1, 1, 1)


def test_who_was_asked_and_never_heard_of_is_listed(score, make_asked, make_answer):
    asked = [make_asked(n, shadows=("mute",)) for n in range(3)]
    values = {"1": (10.0, 500.0), "2": (10.0, 500.0)}
    card = score(asked, [make_answer(one, "one", values, role="active") for one in asked])
    mute = of(card, "mute")
    assert (mute.answers, mute.failures, mute.absent, mute.cost) == (0, 0, 3, None)
    assert card.compared == ("one",)
    [row] = [line.split() for line in scorecard_lines(card) if line.startswith("mute")]
    assert row[:5] == ["mute", "-", "0", "0", "3"]


def test_reality_is_shown_of_whom_no_answer_is_kept_any_more(score, make_asked, make_assurance):
    found = score([make_asked()], [], reality=realities([make_assurance(0, optimizer="old", realised=0.1)]))
    [row] = [line for line in scorecard_lines(found) if line.startswith("old")]
    assert row.split()[1] == "former"
    assert row.endswith("100.0 % of 1")
    assert "no answers to compare" in list(scorecard_lines(found))


def test_a_shadow_that_may_still_answer_is_not_absent(make_asked, make_answer):
    asked = make_asked(shadows=("two",))
    questions = {asked.problem.id: question(asked)}
    done = make_answer(make_asked(1), "two", {"1": (10.0, 500.0)})
    replies = [reply(done, question(make_asked(1)))]
    for seconds, absent in ((29, 0), (30, 1)):
        window = (asked.at, asked.at + timedelta(seconds=seconds))
        card = scorecard("edge", window, "one", questions, replies, {})
        assert of(card, "two").absent == absent


def test_latencies_are_those_of_answers_and_what_was_not_measured_is_not_zero(score, make_asked, make_answer):
    asked = [make_asked(n) for n in range(21)]
    values = {"1": (10.0, 500.0), "2": (10.0, 500.0)}
    answers = [make_answer(one, "one", values, role="active", latency_s=0.001 * n) for n, one in enumerate(asked)]
    one = of(score(asked, answers), "one")
    assert (one.latency_p50_s, one.latency_p95_s) == (0.010, 0.019)  # of 1 to 20 ms
    answers = [replace(answer, latency_s=0.0) for answer in answers[:15]] + answers[15:]
    assert of(score(asked, answers), "one").latency_p50_s == 0.017  # of 15 to 20 ms


def test_a_fallback_that_is_asked_now_and_then_takes_no_pairs_from_the_others(score, make_asked, make_answer):
    asked = [make_asked(n) for n in range(2)]
    values = {"1": (10.0, 500.0), "2": (10.0, 500.0)}
    answers = [make_answer(one, name, values, role=role) for one in asked for name, role in WHO]
    answers.append(make_answer(asked[0], "spare", values, role="fallback"))
    card = score(asked, answers)
    assert card.compared == ("one", "two")
    assert card.paired_problems == 2
    assert of(card, "spare").cost is None
    assert score(asked, answers, compared=("one", "spare")).paired_problems == 1


WHO = (("one", "active"), ("two", "shadow"))


def test_reality_weighs_intervals_by_user_time_and_leaves_unknown_ones_out(make_assurance):
    found = realities(
        [
            make_assurance(0, realised=0.1, users_slots=30.0),
            make_assurance(1, realised=0.3, users_slots=10.0, status="NOT_FULFILLED"),
            make_assurance(2, status="UNKNOWN"),
            make_assurance(3, realised=0.5, users_slots=10.0, optimizer="two"),
        ]
    )
    assert found["one"].realised == pytest.approx((0.1 * 30 + 0.3 * 10) / 40)
    assert (found["one"].fulfilled, found["one"].judged, found["one"].unknown) == (0.5, 2, 1)
    assert found["two"].realised == 0.5


def test_what_stood_in_or_was_held_by_a_mode_is_nobodys_reality(make_assurance):
    """An allocation names whom it is routed to also where Peak-alloc stood in, as that one had no answer."""
    found = [
        make_assurance(0, realised=0.05),
        make_assurance(1, realised=0.9, status="NOT_FULFILLED", fallback="peak"),
        make_assurance(2, realised=0.9, status="NOT_FULFILLED", fallback="force"),
        make_assurance(3, realised=0.9, status="NOT_FULFILLED", fallback="last"),
        make_assurance(3, realised=0.05, epoch=2),
    ]
    assert (realities(found)["one"].fulfilled, realities(found)["one"].judged) == (1.0, 2)
    assert stood_in(found) == 2


def test_of_two_words_on_an_interval_the_later_epoch_counts(make_assurance):
    again = make_assurance(0, epoch=2, status="NOT_FULFILLED")
    for order in ([make_assurance(0), again], [again, make_assurance(0)]):
        assert realities(order)["one"].fulfilled == 0.0


def test_where_nothing_is_paired_it_is_said(score, make_asked, make_answer):
    first, second = make_asked(0), make_asked(1)
    values = {"1": (10.0, 500.0)}
    card = score(
        [first, second], [make_answer(first, "one", values, role="active"), make_answer(second, "two", values)]
    )
    assert card.paired_problems == 0
    assert (of(card, "one").cost, of(card, "two").cost_ratio) == (None, None)
    assert any("no problem was answered by all" in line for line in scorecard_lines(card))
