from datetime import timedelta

from microopt_collector.dataset.rows import rows

A, B = {"gnb_cpu": 1000.0}, {"gnb_cpu": 2000.0}
UNKNOWN = {"users": None, "qos": None, "quality": "missing"}


def seconds(found, start):
    return [(row.telemetry.time - start.time).total_seconds() for row in found]


def transient(found):
    return [row.transient for row in found]


def test_slots_are_transient_until_the_slice_has_settled_after_a_change(telemetry):
    slots = [telemetry(n, allocation=A if n < 5 else B) for n in range(10)]
    found = list(rows(slots, slots[0].time, settle_s=3.0))
    assert transient(found) == [True] * 3 + [False] * 2 + [True] * 3 + [False] * 2


def test_what_was_in_force_before_the_window_tells_whether_its_first_slots_have_settled(telemetry):
    slots = [telemetry(n, allocation=A) for n in range(10)]
    found = list(rows(slots, slots[4].time, settle_s=3.0))
    assert seconds(found, slots[0]) == [4, 5, 6, 7, 8, 9]
    assert transient(found) == [False] * 6


def test_an_allocation_that_becomes_unknown_is_a_change(telemetry):
    slots = [telemetry(n, allocation={} if n == 5 else A) for n in range(12)]
    found = list(rows(slots, slots[0].time, settle_s=3.0))
    assert transient(found) == [True] * 3 + [False] * 2 + [True] * 4 + [False] * 3


def test_slots_without_telemetry_are_missing_rows(telemetry):
    slots = [telemetry(n, allocation=A) for n in (0, 1, 4)]
    found = list(rows(slots, slots[0].time, settle_s=0.0))
    assert seconds(found, slots[0]) == [0, 1, 2, 3, 4]
    assert [row.telemetry.quality for row in found] == ["complete", "complete", "missing", "missing", "complete"]
    assert [(row.telemetry.users, row.telemetry.qos, row.telemetry.allocation) for row in found[2:4]] == [
        (None, None, {}),
        (None, None, {}),
    ]


def test_a_slice_need_not_settle_again_after_a_few_missing_slots_but_after_a_long_gap(telemetry):
    slots = [telemetry(n, allocation=A) for n in (*range(5), *range(14, 16), *range(26, 31))]
    by_second = {
        (row.telemetry.time - slots[0].time).total_seconds(): row.transient
        for row in rows(slots, slots[0].time, settle_s=3.0)
    }
    assert [by_second[n] for n in (13, 14, 15)] == [True, False, False]
    assert [by_second[n] for n in (25, 26, 27, 28, 29)] == [True, True, True, True, False]


def test_a_gap_through_which_the_allocation_is_known_is_none(telemetry):
    slots = [telemetry(n, allocation=A, **(UNKNOWN if 5 <= n < 30 else {})) for n in range(35)]
    found = list(rows(slots, slots[0].time, settle_s=3.0))
    assert transient(found) == [True] * 3 + [False] * 32


def test_missing_telemetry_that_says_nothing_is_the_same_as_none(telemetry):
    said = [telemetry(n, allocation=A) for n in (0, 1, 20, 21)]
    silent = [telemetry(n, **UNKNOWN) for n in range(2, 20)]
    assert list(rows(sorted(said + silent, key=lambda t: t.time), said[0].time, settle_s=3.0)) == list(
        rows(said, said[0].time, settle_s=3.0)
    )


def test_short_slots_meet_their_grid_after_a_gap(telemetry):
    first = telemetry(0, slot_s=0.0333)
    last = telemetry(0, slot_s=0.0333, time=first.time + timedelta(milliseconds=100))
    assert len(list(rows([first, last], first.time, settle_s=0.0))) == 4
