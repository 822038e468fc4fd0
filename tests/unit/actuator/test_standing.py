"""From when an allocation counts as due."""

import time
from datetime import UTC, datetime, timedelta

from microopt.messages import Allocation, Interval
from microopt_actuator.standing import Standing

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def later(seconds):
    return NOW + timedelta(seconds=seconds)


def allocation(epoch=1, in_s=0.0, valid_s=3600.0):
    return Allocation(
        slice="1",
        pool="edge",
        interval=Interval(later(in_s), 3600.0),
        epoch=epoch,
        values={"gnb_cpu": 2000.0},
        valid_until=later(in_s + valid_s),
        optimizer="microopt",
        status="optimal",
    )


def test_an_allocation_that_had_to_wait_is_due_since_its_start_not_since_its_receipt():
    standing = Standing()
    standing.take(allocation(in_s=60.0), NOW)
    received_s = time.monotonic()
    time.sleep(0.05)
    before_s = time.monotonic()
    standing.switch(later(60.01))  # seen 0.01 s late
    assert received_s < before_s - 0.01 <= standing.since_s <= time.monotonic() - 0.01


def test_an_allocation_that_came_after_its_start_is_due_since_its_receipt():
    standing, before_s = Standing(), time.monotonic()
    standing.take(allocation(in_s=-3000.0), NOW)
    assert before_s <= standing.since_s <= time.monotonic()


def test_a_clock_that_jumps_makes_nothing_due_before_its_receipt():
    standing, before_s = Standing(), time.monotonic()
    standing.take(allocation(in_s=60.0), NOW)
    standing.switch(later(86_400.0))
    assert before_s <= standing.since_s <= time.monotonic()


def test_one_that_waits_rules_only_from_its_start_and_an_older_one_never():
    standing = Standing()
    standing.take(allocation(5), NOW)
    standing.take(allocation(6, in_s=60.0), NOW)
    standing.take(allocation(4), NOW)
    assert (standing.ruling, standing.newest) == (allocation(5), allocation(6, in_s=60.0))
    standing.switch(later(60.0))
    assert (standing.ruling, standing.pending) == (allocation(6, in_s=60.0), None)


def test_one_that_is_due_already_takes_the_place_of_one_with_a_lower_epoch_that_waits():
    standing = Standing()
    standing.take(allocation(5, in_s=60.0), NOW)
    standing.take(allocation(6), NOW)
    assert (standing.ruling, standing.pending) == (allocation(6), None)
