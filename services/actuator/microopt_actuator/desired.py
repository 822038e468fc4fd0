"""What a slice shall have now: its last allocation, checked, or what its blind policy makes of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from microopt.errors import PermanentError
from microopt.messages import Allocation
from microopt.specs import BlindPolicy, Bounds, PoolSpec, SliceSpec

_SLACK: Final = 1e-9
"""Relative; a value that was computed to lie on its bound is within."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to hold now; a resource that is not among `values` is left as it is.

    `keep` says whether a value that somebody else changes is put back; `blind` is the policy that rules.
    """

    values: Mapping[str, float]
    keep: bool
    blind: BlindPolicy | None = None


def plan(allocation: Allocation, spec: SliceSpec | None, now: datetime) -> Plan:
    """Return what holds at `now`: the allocation while it is valid, then the slice's blind policy.

    All of it is brought within the bounds that the slice has now; a resource without bounds is left as it is, and
    so is a slice whose spec was removed. A slice that never had an allocation has no blind policy either: nothing
    is written for it.
    """
    if spec is None:
        return Plan({}, keep=False)
    within = _within(allocation.values, spec)
    if now < allocation.valid_until:
        return Plan(within, keep=True)
    if spec.blind_policy == "hold":
        outside = {name: value for name, value in within.items() if value != allocation.values[name]}
        return Plan(outside, keep=False, blind="hold")
    peak = spec.peak_allocation
    if spec.blind_policy == "max":
        peak = {name: max(value, allocation.values.get(name, 0.0)) for name, value in peak.items()}
    return Plan(_within(peak, spec), keep=False, blind=spec.blind_policy)


def check_values(allocation: Allocation, spec: SliceSpec) -> None:
    """Pass an allocation whose every value is finite and within the slice's bounds.

    Raises:
        PermanentError: one is not; the text names resource, value and bound.
    """
    for name, value in allocation.values.items():
        what = f"allocation of slice {allocation.slice}, epoch {allocation.epoch}: {name} {value:g}"
        bounds = spec.bounds.get(name)
        if bounds is None:
            raise PermanentError(
                f"{what}: the slice has no bounds for it, only for {', '.join(sorted(spec.bounds))}"
            )
        if not math.isfinite(value):
            raise PermanentError(f"{what} is not a number that can be set")
        if value < bounds.floor * (1 - _SLACK):
            raise PermanentError(f"{what} is below the floor {bounds.floor:g} of the slice's bounds")
        if value > bounds.ceiling * (1 + _SLACK):
            raise PermanentError(f"{what} is above the ceiling {bounds.ceiling:g} of the slice's bounds")


def check_units(allocation: Allocation, pool: PoolSpec | None, units: Mapping[str, str | None]) -> None:
    """Pass an allocation whose resources the pool counts in the `units` that their drivers set; None takes any.

    Raises:
        PermanentError: a resource is counted in another unit; the text names both.
    """
    resources = pool.resources if pool is not None else {}
    for name, unit in units.items():
        if unit is not None and name in resources and resources[name].unit != unit:
            raise PermanentError(
                f"allocation of slice {allocation.slice}, epoch {allocation.epoch}: pool {allocation.pool} counts "
                f"{name} in {resources[name].unit!r}, but its driver sets {unit!r}; change the pool's unit or "
                "the binding"
            )


def check_epoch(allocation: Allocation, last: Allocation | None) -> None:
    """Pass an allocation that is newer than `last`, or the same again.

    Raises:
        PermanentError: a lower epoch, or the same one with other values: there is a second writer.
    """
    if last is None or allocation.epoch > last.epoch:
        return
    what = f"allocation of slice {allocation.slice}: epoch {allocation.epoch}"
    if allocation.epoch < last.epoch:
        raise PermanentError(f"{what} is lower than {last.epoch}, accepted before; is there a second router?")
    if allocation.values != last.values:
        raise PermanentError(f"{what} has come before with other values; is there a second router?")


def _within(values: Mapping[str, float], spec: SliceSpec) -> dict[str, float]:
    return {name: _clamped(value, spec.bounds[name]) for name, value in values.items() if name in spec.bounds}


def _clamped(value: float, bounds: Bounds) -> float:
    return min(max(value, bounds.floor), bounds.ceiling)
