import numpy as np
import pytest

from microopt_forecaster.history import MAX_SLOTS, History

T0 = 1_800_000_000.0
SLOT_S = 0.1


@pytest.fixture
def history():
    return History(SLOT_S, horizon_s=1.0)


def fill(history: History, values: dict[int, float | None]) -> History:
    for n, users in values.items():
        history.add(T0 + n * SLOT_S, users)
    return history


def last(history: History, first: int, count: int) -> list[float | None]:
    users = history.window(history.slot(T0) + first, count)
    return [None if np.isnan(u) else u for u in users.tolist()]


def test_slots_are_numbered_from_the_epoch_without_rounding_into_the_former_one(history):
    numbers = [history.slot(T0 + n * SLOT_S) for n in range(1000)]
    assert numbers == list(range(round(T0 / SLOT_S), round(T0 / SLOT_S) + 1000))


def test_what_was_never_said_or_said_to_be_unknown_is_a_gap(history):
    fill(history, {0: 1.0, 1: None, 3: 4.0})
    assert last(history, -1, 6) == [None, 1.0, None, None, 4.0, None]
    assert len(history) == 2


def test_slots_may_come_in_any_order_and_the_latest_word_counts(history):
    fill(history, {5: 6.0, 2: 3.0, 4: 5.0})
    fill(history, {2: 9.0})
    assert last(history, 2, 4) == [9.0, None, 5.0, 6.0]


def test_what_is_older_than_the_horizon_is_forgotten(history):
    fill(history, {n: float(n) for n in range(25)})
    fill(history, {3: 99.0})
    assert last(history, 12, 13) == [None] * 3 + [float(n) for n in range(15, 25)]


@pytest.mark.parametrize("gap", [3, 9, 10, 11, 1000])
def test_a_gap_leaves_nothing_of_a_former_round(history, gap):
    fill(history, {n: float(n) for n in range(10)})
    fill(history, {9 + gap: 7.0})
    assert last(history, 10, gap) == [None] * (gap - 1) + [7.0]
    assert len(history) == max(0, 10 - gap) + 1


def test_nothing_is_known_of_an_empty_history(history):
    assert last(history, 0, 3) == [None] * 3
    assert len(history) == 0


@pytest.mark.parametrize(("horizon_s", "kept"), [(0.4, 4), (1.0, 10), (3.0, 10)])
def test_a_changed_horizon_keeps_the_newest(history, horizon_s, kept):
    fill(history, {n: float(n) for n in range(13)})
    other = history.resized(horizon_s)
    assert last(other, 13 - kept, kept) == [float(n) for n in range(13 - kept, 13)]
    assert len(other) == kept


def test_a_copy_is_unmoved_by_what_follows(history):
    fill(history, {0: 1.0})
    copy = history.copy()
    fill(history, {0: 5.0, 1: 2.0})
    assert last(copy, 0, 2) == [1.0, None]


def test_the_horizon_is_bounded():
    assert History(1.0, horizon_s=1e9).capacity == MAX_SLOTS
