from datetime import UTC, datetime, timedelta

import pytest

from microopt_collector.slots import MAX_MISSING_RUN, MAX_OPEN_SLOTS, SlotBook
from microopt_collector.sources.base import Measurement

T0 = 1_800_000_000.0
SLOT_S = 0.1


@pytest.fixture
def book():
    return SlotBook("1-000001", SLOT_S, lateness_slots=1.0)


def at(slot: float, users: float | None = 3.0, qos: float | None = 4.5, source: str = "ran") -> Measurement:
    return Measurement(slice="1-000001", time_s=T0 + slot * SLOT_S, users=users, qos=qos, source=source)


def now(slot: float) -> float:
    return T0 + slot * SLOT_S


def add(book: SlotBook, *measurements: Measurement) -> list[str]:
    """Add each at the time that it says."""
    return [book.add(m, m.time_s) for m in measurements]


def numbers(closed) -> list[int]:
    return [round((t.time.timestamp() - T0) / SLOT_S) for t in closed]


def test_a_slot_begins_at_a_multiple_of_its_length_and_says_who_measured(book):
    add(book, at(3.4, source="ran"), at(3.6, source="core"))
    [telemetry] = book.close(now(5))
    assert telemetry.time == datetime.fromtimestamp(T0, UTC) + timedelta(seconds=0.3)
    assert (telemetry.slice, telemetry.slot_s, telemetry.source) == ("1-000001", SLOT_S, "core,ran")


def test_a_measurement_on_the_edge_belongs_to_the_slot_that_begins(book):
    add(book, *(at(n) for n in range(200)))
    assert numbers(book.close(now(201))) == list(range(200))


def test_users_are_averaged_and_qos_weighs_by_users(book):
    add(book, at(0.1, users=1, qos=8.0), at(0.2, users=3, qos=4.0), at(0.3, users=0, qos=None))
    [telemetry] = book.close(now(2))
    assert telemetry.users == pytest.approx(4 / 3)
    assert telemetry.qos == pytest.approx(5.0)
    assert telemetry.quality == "complete"


def test_qos_without_counted_users_is_averaged_plainly(book):
    add(book, at(0.1, users=None, qos=8.0), at(0.2, users=None, qos=4.0), at(0.3, users=2, qos=None))
    [telemetry] = book.close(now(2))
    assert (telemetry.users, telemetry.qos, telemetry.quality) == (2.0, 6.0, "complete")


def test_no_users_means_no_qos_and_nothing_is_missing(book):
    add(book, at(0.1, users=0, qos=None), at(0.2, users=0, qos=9.0))
    [telemetry] = book.close(now(2))
    assert (telemetry.users, telemetry.qos, telemetry.quality) == (0.0, None, "complete")


@pytest.mark.parametrize(("users", "qos"), [(None, 4.5), (3.0, None), (None, None)])
def test_what_is_unknown_makes_a_slot_partial(book, users, qos):
    add(book, at(0.1, users=users, qos=qos))
    [telemetry] = book.close(now(2))
    assert (telemetry.users, telemetry.qos, telemetry.quality) == (users, qos, "partial")


def test_a_slot_stays_open_until_its_lateness_has_passed(book):
    add(book, at(0.5))
    assert book.close(now(1.9)) == []
    assert numbers(book.close(now(2.0))) == [0]
    assert book.close(now(2.0)) == []


def test_a_later_measurement_closes_no_slot(book):
    add(book, at(0.5, users=1), at(1.0))
    assert book.close(now(1.0)) == []
    assert book.add(at(0.9, users=5), now(1.2)) == "ok"
    [telemetry] = book.close(now(2.0))
    assert telemetry.users == 3.0


def test_a_source_with_a_fast_clock_makes_no_other_late(book):
    assert book.add(at(9.5, source="fast"), now(0.2)) == "ok"
    assert book.close(now(0.3)) == []
    assert book.add(at(0.5), now(0.6)) == "ok"
    assert book.add(at(1.5), now(1.6)) == "ok"
    closed = book.close(now(3.0))
    assert [(t.source, t.quality) for t in closed] == [("ran", "complete"), ("ran", "complete")]
    assert numbers(book.close(now(11.0))) == list(range(2, 10))


def test_a_slot_without_lateness_closes_at_its_end():
    book = SlotBook("1-000001", SLOT_S, lateness_slots=0.0)
    book.add(at(0.5), now(0.6))
    assert book.close(now(0.99)) == []
    assert book.add(at(0.9), now(1.0)) == "late"
    assert numbers(book.close(now(1.0))) == [0]


def test_a_duplicate_counts_once_but_not_across_sources(book):
    assert add(book, at(0.5, users=1), at(0.5, users=7), at(0.5, users=3, source="core")) == [
        "ok",
        "duplicate",
        "ok",
    ]
    [telemetry] = book.close(now(2))
    assert telemetry.users == 2.0


def test_a_slot_that_was_closed_is_never_published_again(book):
    add(book, at(0.5), at(1.5))
    assert numbers(book.close(now(2.0))) == [0]
    assert book.add(at(0.7), now(2.0)) == "late"
    assert book.add(at(0.7), now(1.0)) == "late"  # also when the clock is set back
    assert numbers(book.close(now(9))) == [1, 2, 3, 4, 5, 6, 7]
    assert book.add(at(5), now(9)) == "late"
    assert book.close(now(9)) == []


def test_a_measurement_for_a_slot_that_passed_before_the_start_is_late(book):
    assert book.add(at(0.5), now(2.0)) == "late"
    assert book.close(now(100)) == []


def test_a_gap_is_said_to_be_missing(book):
    add(book, at(0.5), at(3.5))
    closed = book.close(now(4.0))
    assert [(t.users, t.qos, t.quality) for t in closed] == [
        (3.0, 4.5, "complete"),
        (None, None, "missing"),
        (None, None, "missing"),
    ]
    assert numbers(closed) == [0, 1, 2]


def test_nothing_is_missing_of_a_slice_never_seen(book):
    assert book.close(now(1000)) == []


def test_a_long_silence_is_said_so_often_only_and_ends_with_the_next_measurement(book):
    add(book, at(0.5))
    said = [t for slot in range(0, 10 * MAX_MISSING_RUN, 7) for t in book.close(now(slot))]
    assert numbers(said) == list(range(MAX_MISSING_RUN + 1))
    assert book.close(now(1_000_000_000)) == []
    add(book, at(1_000_000_000.5))
    closed = book.close(now(1_000_000_004))
    assert [t.quality for t in closed] == ["complete", "missing", "missing"]
    assert closed[0].time == datetime.fromtimestamp(T0, UTC) + timedelta(seconds=100_000_000)


def test_usage_pressure_and_throttling_are_averaged_for_each_resource(book):
    common = {"slice": "1-000001", "source": "gnb"}
    add(
        book,
        Measurement(
            time_s=now(0.1), usage={"gnb_cpu": 100.0, "upf_cpu": 5.0}, pressure={"gnb_cpu": 0.1}, **common
        ),
        Measurement(time_s=now(0.2), usage={"gnb_cpu": 300.0}, throttled={"gnb_cpu": 0.5}, **common),
    )
    [telemetry] = book.close(now(2))
    assert telemetry.usage == {"gnb_cpu": 200.0, "upf_cpu": 5.0}
    assert (telemetry.pressure, telemetry.throttled) == ({"gnb_cpu": 0.1}, {"gnb_cpu": 0.5})
    assert telemetry.quality == "partial"


def test_users_of_one_source_and_qos_of_another_make_a_slot_complete(book):
    add(book, at(0.1, users=4, qos=None, source="smf"), at(0.2, users=None, qos=6.0, source="ran"))
    [telemetry] = book.close(now(2))
    assert (telemetry.users, telemetry.qos, telemetry.quality) == (4.0, 6.0, "complete")


def test_slots_that_cannot_be_closed_are_given_up_and_said_to_be_missing(book):
    add(book, at(0.5))
    assert numbers(book.close(now(2.0))) == [0]
    add(book, *(at(n + 0.5) for n in range(1, MAX_OPEN_SLOTS + 12)))
    closed = book.close(now(MAX_OPEN_SLOTS + 20))
    given_up = [t for t in closed if t.quality == "missing"]
    assert numbers(given_up)[:10] == list(range(1, 11))
    assert len(closed) - len(given_up) == MAX_OPEN_SLOTS + 1  # and one for the lateness


def test_a_clock_that_is_set_back_begins_the_book_anew(book):
    add(book, at(1000.5), at(1001.5))
    assert numbers(book.close(now(1002.0))) == [1000]
    assert book.add(at(3.5), now(3.6)) == "ok"
    assert numbers(book.close(now(5.0))) == [3]
    add(book, at(5.5))
    assert numbers(book.close(now(7.0))) == [4, 5]


def test_an_hour_ahead_for_a_moment_costs_no_hour(book):
    add(book, at(0.5))
    assert len(book.close(now(36_000.0))) <= 1 + MAX_MISSING_RUN
    assert book.add(at(2.5), now(2.6)) == "ok"
    assert numbers(book.close(now(4.0))) == [2]


def test_a_clock_that_jumps_ahead_says_a_bounded_number_of_gaps(book):
    add(book, at(0.5), at(1.5))
    closed = book.close(now(1_000_000_000.0))
    assert len(closed) == 2 + MAX_MISSING_RUN
    assert book.add(at(1_000_000_000.5), now(1_000_000_000.6)) == "ok"
    assert [t.quality for t in book.close(now(1_000_000_002.0))] == ["complete"]
