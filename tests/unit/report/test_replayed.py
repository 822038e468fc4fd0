"""A replay is bit-exact or it is not, and only the same optimizer of the same version can break a promise."""

import math

import pytest
from msgspec.structs import replace

from microopt_optimizer.report.figures import weights_of
from microopt_optimizer.report.replay_text import replay_lines
from microopt_optimizer.report.replayed import Replay, counted, replayed


@pytest.fixture
def compared(make_asked, make_answer):
    """Return the replay of one answer by `one`, and the new answer with changes."""

    def run(bw, *, recorded_by="one", **changes):
        asked = make_asked(slices=("1", "2"))
        recorded = make_answer(asked, recorded_by, {"1": (10.0, 500.0), "2": (20.0, 600.0)})
        again = make_answer(asked, "one", {"1": (bw, 500.0), "2": (20.0, 600.0)}).solution
        again = replace(again, **changes)
        one = replayed(asked.at, asked.problem.id, 1.0, weights_of(asked.problem), recorded, again)
        return Replay(pool="edge", optimizer="one", replayed=(one,))

    return run


def test_the_same_allocations_are_bit_exact(compared):
    found = compared(10.0)
    assert found.replayed[0].bit_exact
    assert not found.broken
    assert counted(found) == (1, 0, 0)
    assert any("bit-exact" in line for line in replay_lines(found))


def test_one_bit_is_a_difference_and_breaks_the_same_version(compared):
    found = compared(math.nextafter(10.0, 11.0))
    one = found.replayed[0]
    assert not one.bit_exact
    assert [difference.slice for difference in one.differences] == ["1"]
    assert one.differences[0].values == {"bw": (10.0, 10.000000000000002)}
    assert found.broken == [one]
    assert any("bw 10.0 → 10.000000000000002 (+1.78e-16)" in line for line in replay_lines(found))


def test_costs_are_recomputed(compared):
    one = compared(15.0).replayed[0]
    assert one.cost == (pytest.approx(1.7), pytest.approx(1.8))
    assert one.differences[0].cost == (pytest.approx(0.7), pytest.approx(0.8))


def test_another_version_may_differ(compared):
    assert not compared(15.0, version="2").broken


def test_another_optimizers_answer_may_differ(compared):
    found = compared(15.0, recorded_by="two")
    assert found.replayed[0].differences
    assert not found.broken


def test_what_a_larger_deadline_makes_exact_was_cut_short_and_not_broken(compared):
    found = compared(15.0)
    one = replace(found.replayed[0], tried_deadline_s=10.0, exact_at_deadline_s=10.0)
    found = replace(found, replayed=(one,))
    assert not found.broken
    assert any("the clock had cut this replay short" in line for line in replay_lines(found))


@pytest.mark.parametrize(("solve_s", "broken"), [(0.49, True), (0.5, False)])
def test_what_its_deadline_had_cut_short_cannot_be_held_against_anybody(compared, solve_s, broken):
    found = compared(15.0)
    one = replace(found.replayed[0], solve_s=(solve_s, 0.01))
    found = replace(found, replayed=(one,))
    assert bool(found.broken) is broken
    assert any("have cut it short" in line for line in replay_lines(found)) is not broken


def test_a_slow_replay_of_a_quick_answer_is_no_excuse(compared):
    found = compared(15.0)
    slow = replace(found.replayed[0], solve_s=(0.01, 0.99), tried_deadline_s=10.0)
    assert replace(found, replayed=(slow,)).broken


def test_a_slice_that_is_not_answered_any_more_is_a_difference(compared):
    again = compared(10.0)
    one = again.replayed[0]
    assert one.bit_exact
    missing = compared(10.0, slices=[])
    assert [found.status for found in missing.replayed[0].differences] == [("optimal", ""), ("optimal", "")]
    assert missing.broken


def test_no_answer_where_there_was_one_is_broken_and_counted(compared):
    one = replace(compared(10.0).replayed[0], bit_exact=False, error="no answer within 2 s", versions=("1", ""))
    found = Replay(pool="edge", optimizer="one", replayed=(one,))
    assert found.broken
    assert counted(found) == (0, 0, 1)


def test_without_a_recorded_answer_there_is_nothing_to_compare(make_asked, make_answer):
    asked = make_asked()
    again = make_answer(asked, "one", {"1": (10.0, 500.0)}).solution
    one = replayed(asked.at, asked.problem.id, 1.0, weights_of(asked.problem), None, again)
    found = Replay(pool="edge", optimizer="one", replayed=(one,))
    assert not found.broken
    assert counted(found) == (0, 0, 1)
