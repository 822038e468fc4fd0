"""A what-if as lines of text."""

from collections.abc import Iterator

from microopt.cli.table import listed
from microopt_optimizer.report.whatif import TIGHTER, Outcome, WhatIf
from microopt_optimizer.report.words import number, percent, signed, table


def whatif_lines(found: WhatIf) -> Iterator[str]:
    """Yield a what-if's lines."""
    before, then, tighter = found.before, found.then, found.tighter
    yield f"slice {found.slice}, pool {found.pool}: what if, by {found.optimizer}. NOTHING IS APPLIED."
    yield f"from {found.source}; now: {found.before_from}"
    yield ""
    head = ("", "now", "then", f"and {100 * TIGHTER:g} % tighter")
    yield from table(head, _rows(found, (before, then, tighter)))
    yield ""
    yield f"cost {number(before.cost)} → {number(then.cost)} ({_step(before.cost, then.cost)})"
    others = (then.pool_cost - then.cost) - (before.pool_cost - before.cost)
    if abs(others) > 1e-9 * max(1.0, before.pool_cost):
        yield f"the pool's other slices: {signed(others)}"
    yield from _margin(found, then)
    yield from _infeasible(found)
    yield from (f"! {note}" for note in found.notes)


def _rows(found: WhatIf, columns: tuple[Outcome, ...]) -> list[list[str]]:
    resources = sorted({name for one in columns for name in one.allocation})
    return [
        ["asked: threshold", *(percent(one.degradation_threshold, 2) for one in columns)],
        [f"asked: QoS, {found.qos_unit}", *(number(one.qos_threshold) for one in columns)],
        ["users a slot, mean", *(number(one.users_mean, 3) for one in columns)],
        *(
            [f"{name}, {found.units.get(name, '')}", *(number(one.allocation.get(name)) for one in columns)]
            for name in resources
        ),
        ["status", *(one.status for one in columns)],
        ["expected degradation", *(percent(one.expected_degradation, 2) for one in columns)],
        ["cost", *(number(one.cost) for one in columns)],
        ["cost of the pool", *(number(one.pool_cost) for one in columns)],
    ]


def _infeasible(found: WhatIf) -> Iterator[str]:
    then, tighter = found.then, found.tighter
    if found.shorted:
        yield f"it would short others, whose SLAs are held now: slice {listed(found.shorted)}"
    if then.status == "infeasible":
        yield f"infeasible then: {then.reason or 'no reason given'}"
    elif tighter.status == "infeasible":
        yield f"infeasible once it is tighter: {tighter.reason or 'no reason given'}"


def _margin(found: WhatIf, then: Outcome) -> Iterator[str]:
    price = then.degradation_price
    by_price = f"; by its price λ {number(price / 100.0, 3)}" if price else ""
    if found.cost_a_point is not None:
        yield f"a percent point tighter costs {number(found.cost_a_point, 3)} more, by solving again{by_price}"
    elif by_price:
        yield f"a percent point tighter costs more{by_price}"


def _step(before: float, then: float) -> str:
    share = f", {signed(100.0 * (then - before) / before)} %" if before > 0.0 else ""
    return f"{signed(then - before)}{share}"
