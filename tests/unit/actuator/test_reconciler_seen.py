"""What telemetry says of values that were verified."""

from datetime import UTC, datetime, timedelta

import pytest

from microopt.messages import Telemetry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CPU = "gnb_cpu"


@pytest.fixture
def slot():
    """Build the telemetry of a slot that begins `after_s` after the allocation was verified."""

    def build(usage, after_s=1.0, **changes):
        time = NOW + timedelta(seconds=after_s)
        fields = {
            "users": 1.0,
            "qos": 5.0,
            "source": "test",
            "usage": usage if isinstance(usage, dict) else {CPU: usage},
        }
        return Telemetry(slice="1", time=time, slot_s=1.0, **{**fields, **changes})

    return build


async def test_a_verified_value_that_use_keeps_within_is_effective_and_said_so_once(world, allocation, slot):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        for n in range(3):
            it.reconciler.see(slot(1990.0, n + 1.0))
    assert it.states() == [(1, "applied"), (1, "verified"), (1, "effective")]
    assert it.reports[-1].observed == 1990.0
    assert it.metric("effective", slice="1", resource=CPU) == 1.0


async def test_use_beyond_a_verified_value_is_a_limit_that_does_not_work(world, allocation, slot):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        for n in range(5):
            it.reconciler.see(slot(3000.0, n + 1.0))
    assert it.states() == [(1, "applied"), (1, "verified"), (1, "ineffective")]
    assert it.reports[-1].error == (
        "1.gnb_cpu reads 2000, but the slice uses 3000: is it bound to the right target?"
    )
    assert it.metric("effective", slice="1", resource=CPU) == 0.0


async def test_a_slot_that_began_before_the_value_was_in_force_says_nothing_of_it(world, allocation, slot):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        for n in range(5):
            it.reconciler.see(slot(3000.0, -1.0 - n))
    assert it.states() == [(1, "applied"), (1, "verified")]


async def test_unknown_use_and_the_use_of_what_is_not_held_say_nothing(world, allocation, slot):
    async with world() as it:
        it.reconciler.accept(allocation())
        await it.reaches((1, "applied"), (1, "verified"))
        it.reconciler.see(slot({}))
        it.reconciler.see(slot({"upf_cpu": 9.0}))
    assert it.states() == [(1, "applied"), (1, "verified")]
