"""Scorecard, ledger and prices as lines of text."""

from collections.abc import Iterator
from typing import Final

from microopt_optimizer.report.ledger import Ledger, Saving, Sums
from microopt_optimizer.report.prices import Prices
from microopt_optimizer.report.scorecard import Score, Scorecard
from microopt_optimizer.report.words import UNKNOWN, moment, number, percent, plural, table

MOST_SHORTED: Final = 10
_SCORES = (
    "optimizer", "role", "answers", "failed", "absent", "refused", "cost", "ratio", "expected", "above", "p50 ms",
    "p95 ms", "realised", "fulfilled",
)  # fmt: skip
_DAYS = (
    "day", "cost·h", "Peak-alloc", "saved", "former", "saved", "slice-intervals", "violations", "UNKNOWN", "worst",
)  # fmt: skip


def scorecard_lines(card: Scorecard) -> Iterator[str]:
    """Yield a scorecard's lines."""
    yield f"pool {card.pool}, {moment(card.since)} to {moment(card.until)} UTC; active: {card.active}"
    if card.scores:
        yield (
            f"on identical inputs: all of {', '.join(card.compared) or 'none'} answered {card.paired_problems} of "
            f"{plural(card.problems, 'problem')} ({plural(card.paired_slices, 'slice answer')} each)"
        )
        yield ""
        yield from table(_SCORES, [_score(one, card.active) for one in card.scores], left=2)
        yield ""
        yield "cost, ratio, expected, above: on identical inputs alone, costs by the problems' weights"
        yield "expected: degradation by the slice model; above: slices beyond the threshold asked for"
        yield "realised: share of user-time that missed its QoS; fulfilled: slice-intervals that kept their SLAs"
    if not card.compared:
        yield "no answers to compare"
    elif not card.paired_problems:
        yield "! no problem was answered by all: compare fewer, with --optimizer A --optimizer B"
    yield from (f"! {note}" for note in card.notes)


def _role(one: Score, active: str) -> str:
    if one.optimizer == active:
        return "active"
    others = ", ".join(role for role in one.roles if role != "active")
    return others or ("former" if one.roles or one.reality else UNKNOWN)


def _score(one: Score, active: str) -> list[str]:
    reality = one.reality
    return [
        one.optimizer,
        _role(one, active),
        str(one.answers),
        str(one.failures),
        str(one.absent),
        str(one.refused_slices),
        number(one.cost),
        number(one.cost_ratio),
        percent(one.expected_degradation),
        percent(one.above),
        number(_ms(one.latency_p50_s), 3),
        number(_ms(one.latency_p95_s), 3),
        percent(reality.realised) if reality else UNKNOWN,
        f"{percent(reality.fulfilled)} of {reality.judged}" if reality and reality.judged else UNKNOWN,
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000.0 * seconds


def ledger_lines(ledger: Ledger) -> Iterator[str]:
    """Yield a ledger's lines."""
    yield f"pool {ledger.pool}, {moment(ledger.since)} to {moment(ledger.until)} UTC"
    if not ledger.days:
        yield "no assurances yet: is the auditor running?"
        return
    rows = [_sums(f"{one.day}", one.sums) for one in ledger.days]
    yield ""
    yield from table(_DAYS, [*rows, _sums("total", ledger.total)])
    yield ""
    yield "cost·h: Σ weight × allocation × hours"
    yield from _against(ledger)
    if worst := ledger.total.worst:
        yield f"worst: slice {worst.slice}, {moment(worst.start)} UTC, {percent(worst.realised)} of user-time"
    yield from (f"! {note}" for note in ledger.notes)


def _against(ledger: Ledger) -> Iterator[str]:
    total = ledger.total
    yield f"Peak-alloc: {_known(total.against_peak, total, 'no cost of it is known')}"
    if ledger.former is None:
        yield "former: no other optimizer was active before, as far as is kept"
    else:
        yield f"former: {ledger.former}, {_known(total.against_former, total, 'no answers to compare')}"


def _known(saving: Saving, total: Sums, none: str) -> str:
    if not saving.slice_intervals:
        return none
    return (
        f"known of {saving.slice_intervals:,} of {total.slice_intervals:,} slice-intervals, which cost "
        f"{number(saving.cost_h)} instead of {number(saving.others_cost_h)}"
    )


def _sums(name: str, one: Sums) -> list[str]:
    return [
        name,
        number(one.cost_h),
        number(one.against_peak.others_cost_h) if one.against_peak.slice_intervals else UNKNOWN,
        percent(one.saved_against_peak),
        number(one.against_former.others_cost_h) if one.against_former.slice_intervals else UNKNOWN,
        percent(one.saved_against_former),
        f"{one.slice_intervals:,}",
        str(one.violations),
        str(one.unknown),
        percent(one.worst.realised if one.worst else None),
    ]


def prices_lines(prices: Prices) -> Iterator[str]:
    """Yield a pool's capacities and prices."""
    answered = f"answered at {moment(prices.answered_at)} UTC" if prices.answered_at else "no answer"
    yield f"pool {prices.pool}; prices by {prices.active}, {answered}"
    yield ""
    head = ("resource", "unit", "capacity", "used", "free", "weight", "price", "most is held by")
    rows = [
        [
            one.resource,
            one.unit,
            number(one.capacity),
            f"{number(one.used)} ({percent(one.used / one.capacity, 0) if one.capacity else UNKNOWN})",
            number(0.0 if abs(one.free) <= 1e-9 * one.capacity else one.free),
            number(one.weight),
            number(one.price),
            ", ".join(f"{held.slice} ({number(held.value)})" for held in one.most) or UNKNOWN,
        ]
        for one in prices.capacities
    ]
    yield from table(head, rows, left=2)
    yield ""
    for one in prices.capacities:
        if one.price:
            yield f"{one.resource} is scarce: one {one.unit} more would save the pool {number(one.price)}"
        elif one.scarce:
            yield f"{one.resource} is scarce: not all slices can be held to their SLAs"
    if all(one.scarce is False for one in prices.capacities):
        yield "no capacity is scarce: none has a price"
    yield from (f"shorted: slice {one.slice}: {one.reason}" for one in prices.shorted[:MOST_SHORTED])
    if len(prices.shorted) > MOST_SHORTED:
        yield f"shorted: {len(prices.shorted) - MOST_SHORTED} slices more; --json has all"
    yield from (f"! {note}" for note in prices.notes)
