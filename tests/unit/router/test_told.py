from datetime import UTC, datetime

import pytest

from microopt.messages import Interval, Problem, SliceProblem, Traffic
from microopt.specs import Bounds, ResourceSpec, Route, Sla
from microopt_optimizer.router.asking import Reply
from microopt_optimizer.router.guard import Verdict
from microopt_optimizer.router.told import MANY, Told

PROBLEM = Problem(
    pool="edge",
    interval=Interval(datetime(2026, 1, 1, tzinfo=UTC), 60.0),
    resources={"gnb_cpu": ResourceSpec(unit="millicores", weight=1.0, capacity=9000.0)},
    slices=[
        SliceProblem(
            slice="1",
            sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
            traffic=Traffic((1.0,), (1.0,)),
            bounds={"gnb_cpu": Bounds(500.0, 4500.0)},
            model="embb",
        )
    ],
)


@pytest.fixture
def make_told():
    return lambda: Told(PROBLEM, PROBLEM.id, Route(pool="edge", active="one", shadows=("two",)))


def absent(told, error="nobody serves it"):
    told.answered(Reply("one", 0.1, error=error), "active", Verdict({}, {"1": error}), {})


def test_what_was_said_of_a_round_is_not_said_again(make_told):
    said = set()
    for count in (1, 0, 0):
        told = make_told()
        absent(told)
        told.event("refused", "1", "one: nobody serves it", "one")
        told.leave_out(said)
        assert (len(told.events), len(told.answers)) == (count, count)
    told = make_told()
    absent(told, "no answer within 1 s")
    told.leave_out(said)
    assert len(told.answers) == 1


def test_the_same_of_many_slices_is_one_event_that_counts_them(make_told):
    told = make_told()
    for n in range(MANY):
        told.event("refused", f"{n + 1}", "one: absent", "one")
    told.event("refused", "99", "one: late", "one")
    told.leave_out(set())
    assert [event.slice for event in told.events] == [None, "99"]
    assert told.events[0].reason == f"{MANY} slices (1, 2, 3, …): one: absent"


def test_what_was_asked_is_told_for_the_shadows_only_when_something_came_of_it(make_told):
    told = make_told()
    absent(told)
    assert told.asked is None
    told.epoch = 7
    assert (told.asked.epoch, told.asked.shadows, told.asked.others) == (7, ("two",), ())
