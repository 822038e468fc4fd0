"""What an interval came to: was the SLA held, what did it cost, and what had been promised."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from microopt.errors import MicrooptError
from microopt.messages import Allocation, Assurance, Telemetry
from microopt.specs import PoolSpec, Sla, SliceSpec
from microopt_optimizer.auditor.tally import Slot, Tally, Waiting

Status = Literal["FULFILLED", "NOT_FULFILLED", "UNKNOWN"]


class Book:
    """One slice's open intervals, and slots that belong to none yet.

    Intervals that begin before `begin_ms` are not counted: a part of their telemetry was not read. `sequence` is
    that of the slice's last assurance in its stream, whoever published it: what is not later is judged already.
    """

    def __init__(self, begin_ms: float) -> None:
        self.begin_ms = begin_ms
        self.judged_ms = float("-inf")
        self.sequence = 0
        self._open: list[Tally] = []
        self._waiting = Waiting()

    def judged(self, assurance: Assurance, sequence: int) -> None:
        """Take note of an assurance: its interval and all that begin before are closed."""
        self.sequence = max(self.sequence, sequence)
        self.judged_ms = max(self.judged_ms, assurance.interval.start.timestamp() * 1000.0)
        self._open = [tally for tally in self._open if not self._is_judged(tally)]

    def _is_judged(self, tally: Tally) -> bool:
        return tally.start_ms <= self.judged_ms + 0.5  # the wire's times are finer than milliseconds

    def allocate(self, allocation: Allocation, stored_at: datetime, sla: Sla | None) -> bool:
        """Open the allocation's interval, or add it to it; return False if that cannot be judged any more."""
        tally = next((one for one in self._open if one.interval == allocation.interval), None)
        if tally is None:
            tally = Tally(allocation.interval)
            if self._is_judged(tally):
                return True
            if tally.start_ms < self.begin_ms - 1.0:
                return self.judged_ms == float("-inf")  # of a slice that was never judged, nobody waits for it
            self._open.insert(0, tally)
            if sla is not None:
                for slot in self._waiting.take(tally.start_ms, tally.end_ms):
                    tally.count(slot, sla)
        tally.rule(allocation, stored_at.timestamp() * 1000.0)
        return True

    def see(self, telemetry: Telemetry, sla: Sla) -> str:
        """Count a slot in the latest allocated interval that has it; return why not, or nothing."""
        slot = Slot.of(telemetry)
        for tally in self._open:
            if slot in tally:
                fate = tally.count(slot, sla)
                return fate if fate == "other-length" else ""
        if self._open and slot.ms < min(tally.start_ms for tally in self._open):
            return "late"
        return "unallocated" if self._waiting.add(slot) else ""

    def due(self, before_ms: float) -> list[Tally]:
        """Return the intervals that ended before `before_ms`, the earliest first."""
        return sorted((t for t in self._open if t.end_ms <= before_ms), key=lambda t: t.start_ms)

    def close(self, tally: Tally) -> None:
        """Forget an interval."""
        self._open.remove(tally)


def judge(tally: Tally, spec: SliceSpec, pool: PoolSpec | None, known_share: float, at: datetime) -> Assurance:
    """Return what an interval that is over came to.

    Realised degradation is the share of the user-time in known slots that missed the QoS threshold; it is unknown
    with less than `known_share` of the slots, and without users.

    Raises:
        MicrooptError: the pool has no weight for a resource that was allocated.
    """
    allocation, slots = tally.ruling(), tally.slots(spec.slot_s)
    is_known = tally.known >= known_share * slots and tally.users > 0.0
    realised = min(1.0, tally.missed / tally.users) if is_known else None
    threshold = spec.sla.degradation_threshold
    return Assurance(
        slice=allocation.slice,
        pool=allocation.pool,
        interval=tally.interval,
        epoch=allocation.epoch,
        optimizer=allocation.optimizer,
        status=status(realised, threshold),
        degradation_threshold=threshold,
        cost=cost(allocation.values, pool, allocation.pool),
        at=at,
        asked_threshold=allocation.asked_threshold,
        expected_degradation=allocation.expected_degradation,
        realised=realised,
        users_slots=tally.users,
        slots=slots,
        known_slots=min(tally.known, slots),
        peak_cost=cost(spec.peak_allocation, pool, allocation.pool) if spec.peak_allocation else None,
        fallback=allocation.fallback,
    )


def status(realised: float | None, threshold: float) -> Status:
    """Return TS 28.536's word for a realised degradation."""
    if realised is None:
        return "UNKNOWN"
    return "FULFILLED" if realised <= threshold else "NOT_FULFILLED"


def cost(values: Mapping[str, float], pool: PoolSpec | None, name: str) -> float:
    """Return the weighted sum of an allocation.

    Raises:
        MicrooptError: a resource has no weight.
    """
    weights = {} if pool is None else {resource: spec.weight for resource, spec in pool.resources.items()}
    if unknown := _without_weight(values, weights):
        raise MicrooptError(f"pool {name} has no weight for {', '.join(unknown)}; see `microopt apply`")
    return sum(weights[resource] * value for resource, value in values.items())


def _without_weight(values: Iterable[str], weights: Mapping[str, float]) -> list[str]:
    return sorted(resource for resource in values if resource not in weights)
