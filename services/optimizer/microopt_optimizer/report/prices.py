"""The capacities of a pool: what is used, what a unit is worth, who holds most, who is shorted."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from microopt.cli.table import listed
from microopt.messages import Allocation, Answer, Solution
from microopt.specs import PoolSpec


class Holder(Struct, frozen=True):
    """A slice with what it holds of a resource."""

    slice: str
    value: float


class Capacity(Struct, frozen=True, kw_only=True):
    """One resource of a pool.

    `price` is what one unit more would save the pool in an interval, beyond its weight, as the active optimizer
    last answered; None is unknown. `scarce` is whether it had a price. `most` are those who hold most of it,
    `used` is by allocations in force.
    """

    resource: str
    unit: str
    capacity: float
    used: float
    free: float
    weight: float
    price: float | None
    scarce: bool | None
    most: tuple[Holder, ...]


class Shorted(Struct, frozen=True):
    """A slice whose SLA the optimizer could not hold, and its reason."""

    slice: str
    reason: str


class Prices(Struct, frozen=True, kw_only=True):
    """A pool's capacities; `answered_at` is when the active optimizer last gave the prices."""

    pool: str
    active: str
    answered_at: datetime | None
    capacities: tuple[Capacity, ...]
    shorted: tuple[Shorted, ...]
    notes: tuple[str, ...] = ()


def prices(
    pool: PoolSpec, active: str, allocations: Mapping[str, Allocation], answer: Answer | None, now: datetime,
    most: int = 3,
) -> Prices:  # fmt: skip
    """Return how a pool's capacities stand, by the last allocation of each of its slices."""
    solution = answer.solution if answer else None
    saved, priced = savings(solution), solution.capacity_prices if solution else {}
    capacities = tuple(
        _capacity(pool, name, allocations, saved.get(name), priced[name] > 0.0 if name in priced else None, most)
        for name in sorted(pool.resources)
    )
    return Prices(
        pool=pool.pool,
        active=active,
        answered_at=answer.at if answer else None,
        capacities=capacities,
        shorted=tuple(
            Shorted(one.slice, one.reason or "no reason given")
            for one in (solution.slices if solution else [])
            if one.status == "infeasible"
        ),
        notes=tuple(_notes(active, allocations, answer, now)),
    )


def savings(solution: Solution | None) -> dict[str, float | None]:
    """Return what one unit more of each capacity would save the pool, None where that is unknown.

    Where slices are shorted more would go to them, and a price only says that none clears the capacity.
    """
    if solution is None:
        return {}
    shorted = any(one.status == "infeasible" for one in solution.slices)
    return {name: None if shorted and price > 0.0 else price for name, price in solution.capacity_prices.items()}


def holders(held: Mapping[str, float], most: int) -> tuple[Holder, ...]:
    """Return those who hold most, the first by name where they hold the same."""
    ranked = sorted(held.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(Holder(name, value) for name, value in ranked[:most] if value > 0.0)


def _capacity(
    pool: PoolSpec, name: str, allocations: Mapping[str, Allocation], price: float | None, scarce: bool | None,
    most: int,
) -> Capacity:  # fmt: skip
    spec = pool.resources[name]
    held = {slice_: one.values.get(name, 0.0) for slice_, one in allocations.items()}
    used = math.fsum(held.values())
    return Capacity(
        resource=name,
        unit=spec.unit,
        capacity=spec.capacity,
        used=used,
        free=spec.capacity - used,
        weight=spec.weight,
        price=price,
        scarce=scarce,
        most=holders(held, most),
    )


def _notes(
    active: str, allocations: Mapping[str, Allocation], answer: Answer | None, now: datetime
) -> Sequence[str]:
    notes = []
    if answer is None:
        notes.append(f"no answer of {active} is kept: prices are unknown")
    elif answer.solution is None:
        notes.append(f"the last answer of {active} failed, so prices are unknown: {answer.error}")
    elif answer.interval.end < now:
        notes.append("the last answer is of an interval that is over: prices may have changed")
    if answer and answer.solution and not answer.solution.capacity_prices:
        notes.append(f"{active} gives no prices: what is scarce is unknown")
    expired = sorted(name for name, one in allocations.items() if one.valid_until < now)
    if expired:
        notes.append(f"allocations expired, counted as they stand: {listed(expired)}")
    return notes
