from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from microopt.messages import Telemetry
from microopt_collector.dataset.seen import Seen, Slots

START = datetime(2026, 1, 1, tzinfo=UTC)


def slot_of(n):
    return Telemetry(
        slice="1-000001", time=START + n * timedelta(milliseconds=100), slot_s=0.1, users=1.0, qos=None
    )


@given(st.sets(st.integers(0, 10**7)), st.sets(st.integers(0, 10**7)))
def test_the_set_of_slots_is_exact_however_far_they_are_apart(noted, asked):
    slots = Slots(0.1)
    for n in noted:
        slots.add(slot_of(n))
    assert {n for n in asked | noted if slot_of(n) in slots} == noted


def test_a_slot_that_was_said_to_be_missing_can_still_be_told(telemetry):
    missing, told = telemetry(0, users=None, qos=None, quality="missing"), telemetry(0)
    seen = Seen(1.0)
    assert not seen.has(missing)
    seen.note(missing)
    assert seen.has(missing)
    assert not seen.has(told)
    seen.note(told)
    assert seen.has(told)
    assert not seen.has(telemetry(0, time=told.time + timedelta(seconds=1)))
