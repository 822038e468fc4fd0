"""What an interval comes to, from its slots and allocations."""

import math
import time
from datetime import UTC, datetime, timedelta

import pytest

from microopt.errors import MicrooptError
from microopt.messages import Interval
from microopt.specs import PoolSpec, ResourceSpec, Sla
from microopt_optimizer.auditor.assurance import Book, judge
from microopt_optimizer.auditor.tally import MOST_WAITING

START = datetime(2026, 1, 1, tzinfo=UTC)
START_MS = START.timestamp() * 1000.0
EARLY = START - timedelta(seconds=1)
SLA = Sla(qos_threshold=4.0, degradation_threshold=0.1)


@pytest.fixture
def outcome(make_allocation, make_slice, make_pool, telemetry):
    """Judge one interval of ten slots, each given by its users and QoS, `...` where nothing was said."""

    def run(*slots, spec=None, allocations=None, known_share=0.9):
        spec = spec or make_slice(slot_s=1.0, interval_s=10.0)
        book = Book(START_MS)
        for allocation, stored_at in allocations or [(make_allocation(), EARLY)]:
            assert book.allocate(allocation, stored_at, spec.sla)
        for n, slot in enumerate(slots):
            if slot is not ...:
                assert book.see(telemetry(n, users=slot[0], qos=slot[1]), spec.sla) == ""
        [tally] = book.due(START_MS + 10_000.0)
        return judge(tally, spec, make_pool(), known_share, START + timedelta(seconds=15))

    return run


def test_realised_degradation_weighs_slots_by_their_users(outcome):
    found = outcome((6.0, 3.9), *[(1.0, 5.0)] * 9)
    assert found.realised == pytest.approx(6 / 15)
    assert (found.status, found.users_slots, found.slots, found.known_slots) == ("NOT_FULFILLED", 15.0, 10, 10)


@pytest.mark.parametrize(("missed", "status"), [(1, "FULFILLED"), (2, "NOT_FULFILLED")])
def test_the_sla_is_fulfilled_up_to_its_threshold(outcome, missed, status):
    found = outcome(*[(1.0, 1.0)] * missed, *[(1.0, 5.0)] * (10 - missed))
    assert (found.realised, found.status) == (missed / 10, status)
    assert found.degradation_threshold == 0.1


def test_who_gets_just_the_threshold_is_degraded_as_in_the_paper(outcome):
    assert outcome(*[(1.0, 4.0)] * 10).realised == 1.0


def test_a_delay_is_degraded_where_it_is_high(outcome, make_slice):
    sla = Sla(qos_threshold=20.0, degradation_threshold=0.5, higher_is_better=False)
    spec = make_slice(slot_s=1.0, interval_s=10.0, sla=sla)
    assert outcome(*[(1.0, 25.0)] * 3, (1.0, 20.0), *[(1.0, 10.0)] * 6, spec=spec).realised == 0.4


def test_with_too_few_known_slots_nothing_is_claimed(outcome):
    found = outcome(*[(1.0, 5.0)] * 8, (1.0, None), ...)
    assert (found.status, found.realised, found.known_slots, found.users_slots) == ("UNKNOWN", None, 8, 8.0)
    assert outcome(*[(1.0, 5.0)] * 9, (None, 5.0)).status == "FULFILLED"
    assert outcome(*[(1.0, 5.0)] * 8, ..., ..., known_share=0.8).status == "FULFILLED"


def test_an_interval_without_users_fulfils_nothing(outcome):
    found = outcome(*[(0.0, None)] * 10)
    assert (found.status, found.realised, found.known_slots) == ("UNKNOWN", None, 10)


def test_slots_without_users_are_known_and_weigh_nothing(outcome):
    found = outcome((0.0, None), (0.0, 0.0), (2.0, 1.0), *[(1.0, 5.0)] * 7)
    assert (found.realised, found.known_slots) == (pytest.approx(2 / 9), 10)


def test_nothing_seen_at_all_is_unknown(outcome):
    found = outcome()
    assert (found.status, found.slots, found.known_slots) == ("UNKNOWN", 10, 0)


def test_cost_and_promise_are_of_the_allocation(outcome, make_slice):
    spec = make_slice(
        slot_s=1.0, interval_s=10.0, peak_allocation={"transport_bandwidth": 50.0, "gnb_cpu": 4500.0}
    )
    found = outcome(*[(1.0, 5.0)] * 10, spec=spec)
    assert (found.cost, found.peak_cost) == (pytest.approx(0.9), pytest.approx(2.0))
    assert (found.expected_degradation, found.asked_threshold) == (0.08, 0.09)
    assert (found.optimizer, found.epoch, found.pool) == ("of-epoch-1", 1, "edge")
    assert found.interval == Interval(START, 10.0)
    assert outcome(*[(1.0, 5.0)] * 10).peak_cost is None


def test_what_stood_in_for_an_answer_is_said(outcome, make_allocation):
    assert outcome(allocations=[(make_allocation(fallback="peak"), EARLY)]).fallback == "peak"


@pytest.mark.parametrize(("second_at_s", "epoch"), [(-0.5, 2), (4.0, 2), (5.0, 2), (6.0, 1)])
def test_an_interval_is_of_the_epoch_that_ruled_longest(outcome, make_allocation, second_at_s, epoch):
    second = make_allocation(2), START + timedelta(seconds=second_at_s)
    assert outcome(allocations=[(make_allocation(1), EARLY), second]).epoch == epoch


def test_an_epoch_that_was_told_after_a_higher_one_never_ruled(outcome, make_allocation):
    later = make_allocation(1), START + timedelta(seconds=1)
    assert outcome(allocations=[(make_allocation(2), EARLY), later]).epoch == 2


def test_a_cost_without_weight_is_refused(make_allocation, make_slice):
    book = Book(START_MS)
    book.allocate(make_allocation(), EARLY, SLA)
    [tally] = book.due(START_MS + 10_000.0)
    pool = PoolSpec(pool="edge", resources={"gnb_cpu": ResourceSpec(unit="m", weight=1.0, capacity=1.0)})
    for known in (pool, None):
        with pytest.raises(MicrooptError, match=r"pool edge has no weight for .*transport_bandwidth"):
            judge(tally, make_slice(), known, 0.9, START)


def test_a_slot_told_again_counts_once_and_a_known_one_replaces_an_unknown_one(make_allocation, telemetry):
    book = Book(START_MS)
    book.allocate(make_allocation(), EARLY, SLA)
    for users, qos in [(None, None), (2.0, 1.0), (2.0, 1.0), (5.0, 9.0), (None, None)]:
        assert book.see(telemetry(3, users=users, qos=qos), SLA) == ""
    [tally] = book.due(START_MS + 10_000.0)
    assert (tally.known, tally.users, tally.missed) == (1, 2.0, 2.0)


def test_slots_that_came_before_their_allocation_are_counted(make_allocation, telemetry):
    book = Book(START_MS)
    for n in range(-2, 12):
        assert book.see(telemetry(n), SLA) == ""
    book.allocate(make_allocation(), START + timedelta(seconds=12), SLA)
    book.allocate(make_allocation(2, n=1), START + timedelta(seconds=12), SLA)
    first, second = book.due(START_MS + 20_000.0)
    assert (first.known, second.known) == (10, 2)


def test_slots_of_a_slice_that_nobody_allocates_are_bounded(telemetry):
    book, kept = Book(START_MS), 0
    for n in range(3 * MOST_WAITING):
        kept += book.see(telemetry(n), SLA) == ""
    assert kept < 3 * MOST_WAITING


def test_slots_of_another_length_and_late_ones_are_said(make_allocation, telemetry):
    book = Book(START_MS)
    book.allocate(make_allocation(), EARLY, SLA)
    assert book.see(telemetry(0), SLA) == ""
    assert book.see(telemetry(1, slot_s=0.5), SLA) == "other-length"
    assert book.see(telemetry(-1), SLA) == "late"


def test_a_slot_so_short_that_an_interval_has_too_many_is_not_counted(make_allocation, telemetry):
    book = Book(START_MS)
    book.allocate(make_allocation(interval=Interval(START, 31 * 86_400.0)), EARLY, SLA)
    assert book.see(telemetry(0, slot_s=0.001), SLA) == "other-length"
    assert book.see(telemetry(0, slot_s=1.0), SLA) == ""
    [tally] = book.due(math.inf)
    assert tally.known == 1


def test_an_interval_is_due_once_it_is_over_and_judged_once(make_allocation, make_slice, make_pool):
    book = Book(START_MS)
    book.allocate(make_allocation(), EARLY, SLA)
    assert book.due(START_MS + 9_999.0) == []
    [tally] = book.due(START_MS + 10_000.0)
    book.judged(judge(tally, make_slice(), make_pool(), 0.9, START), 7)
    assert (book.due(math.inf), book.sequence) == ([], 7)
    book.allocate(make_allocation(2), START, SLA)
    assert book.due(math.inf) == []


def test_an_interval_that_was_read_in_part_is_not_judged(make_allocation, make_slice, make_pool):
    book = Book(START_MS + 1_000.0)
    assert book.allocate(make_allocation(), EARLY, SLA)  # nobody ever judged this slice: nothing is missing
    assert book.due(math.inf) == []
    other = Book(START_MS)
    other.allocate(make_allocation(), EARLY, SLA)
    book.judged(judge(other.due(math.inf)[0], make_slice(), make_pool(), 0.9, START), 7)
    book.begin_ms += 20_000.0
    assert not book.allocate(make_allocation(2, n=1), EARLY, SLA)  # between the last assurance and what is read


def test_a_thousand_slices_with_a_slot_each_second_are_cheap(make_allocation, telemetry):
    books = [Book(START_MS) for _ in range(1000)]
    for book in books:
        book.allocate(make_allocation(), EARLY, SLA)
    slots = [telemetry(n) for n in range(10)]
    began_s = time.process_time()
    for slot in slots:
        for book in books:
            book.see(slot, SLA)
    assert all(book.due(START_MS + 10_000.0)[0].known == 10 for book in books)
    assert time.process_time() - began_s < 5.0  # of the ten seconds in which they come


def test_an_assurance_says_that_something_stood_in(outcome, make_allocation):
    assert outcome().fallback == ""
    assert outcome(allocations=[(make_allocation(fallback="peak"), EARLY)]).fallback == "peak"
