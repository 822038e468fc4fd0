"""The desired state of every slice, and the workers that bring it about; it knows drivers but no bus."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from microopt.errors import PermanentError, TemporaryError
from microopt.messages import Allocation, Telemetry
from microopt.specs import PoolSpec, SliceSpec
from microopt_actuator.bindings import Bindings, Bound
from microopt_actuator.desired import Plan, check_epoch, check_units, check_values, plan
from microopt_actuator.drivers.base import Driver
from microopt_actuator.job import Wish
from microopt_actuator.metrics import ActuatorMetrics
from microopt_actuator.refusal import refusals
from microopt_actuator.standing import Standing
from microopt_actuator.turns import Turns
from microopt_actuator.worker import Clock, Report, Worker

LONGEST_SLEEP_S: Final = 1.0
"""A clock that was set meanwhile is noticed by then."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class SpecMissing(TemporaryError):
    """An allocation cannot be taken before its slice and pool have a spec; the text says which has none."""


def utc_now() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Slice:
    """One slice: what it was allocated, and a worker a bound resource."""

    spec: SliceSpec | None = None
    standing: Standing = field(default_factory=Standing)
    blind: bool = False
    workers: dict[str, Worker] = field(default_factory=dict)

    def next_change(self) -> datetime:
        """Return when the next allocation begins or the one that rules expires, whichever is first."""
        ruling, pending = self.standing.ruling, self.standing.pending
        start = pending.interval.start if pending else _NEVER
        return min(start, ruling.valid_until) if ruling and self.spec and not self.blind else start


class Reconciler:
    """Follows the last allocation of each slice, resource by resource, each in its own task.

    A slice that never had an allocation is left as it is: its blind policy rules only after one.

    Args:
        bindings: what is bound to which driver's target.
        drivers: the drivers that the bindings name.
        report: takes what became of each resource; it must not block.
        metrics: the actuator's.
        check_every_s: time between two readings of a value that is in force.
        clock: the time of day, with its zone.
    """

    def __init__(
        self,
        bindings: Bindings,
        drivers: Mapping[str, Driver],
        *,
        report: Report,
        metrics: ActuatorMetrics,
        check_every_s: float = 2.0,
        clock: Clock = utc_now,
    ) -> None:
        self._bindings = bindings
        self._drivers = drivers
        self._report = report
        self._metrics = metrics
        self._check_every_s = check_every_s
        self._clock = clock
        self._turns = Turns()
        self._slices: dict[str, _Slice] = {}
        self._pools: dict[str, PoolSpec] = {}
        self._group: asyncio.TaskGroup | None = None
        self._wake_at = _NEVER
        self._sooner = asyncio.Event()
        self._log = structlog.get_logger("microopt.actuator")

    async def run(self) -> None:
        """Run the workers, those that are there and those to come, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for one in self._slices.values():
                    for worker in one.workers.values():
                        self._start(worker)
                await asyncio.Event().wait()
            finally:
                self._group = None

    def set_spec(self, slice_: str, spec: SliceSpec | None) -> None:
        """Take the slice's bounds and blind policy; without a spec its resources are left as they are."""
        one = self._slices.setdefault(slice_, _Slice())
        if spec is None and one.spec is not None and one.standing.ruling is not None:
            self._log.warning("slice_removed_but_held", slice=slice_, values=self._held(one.standing.ruling))
        one.spec, one.standing.since_s = spec, time.monotonic()
        self._follow(slice_)

    def set_pool(self, pool: str, spec: PoolSpec | None) -> None:
        """Take the units in which a pool counts its resources."""
        if spec is None:
            self._pools.pop(pool, None)
        else:
            self._pools[pool] = spec

    def last(self, slice_: str) -> Allocation | None:
        """Return the allocation that was accepted last, due or not."""
        one = self._slices.get(slice_)
        return one.standing.newest if one else None

    def ruling(self, slice_: str) -> Allocation | None:
        """Return the allocation whose interval began last, or None before the first."""
        one = self._slices.get(slice_)
        return one.standing.ruling if one else None

    @property
    def slices(self) -> list[str]:
        """Return the slices that were allocated something."""
        return [name for name, one in self._slices.items() if one.standing.newest is not None]

    def in_force(self, slice_: str) -> dict[str, float]:
        """Return the values of a slice's resources that were verified or read last, as far as they are known."""
        one = self._slices.get(slice_)
        held = {name: worker.held for name, worker in one.workers.items()} if one else {}
        return {name: value for name, value in held.items() if value is not None}

    def owns(self, allocation: Allocation) -> bool:
        """Return whether any resource of the allocation is bound here."""
        return bool(self._bound(allocation))

    def accept(self, allocation: Allocation) -> None:
        """Follow `allocation` from its interval's start on; one that has come before changes nothing.

        Raises:
            SpecMissing: the slice or its pool has no spec yet.
            PermanentError: a lower epoch, a value outside the slice's bounds, or a unit that is not its driver's.
                All of it is refused.
        """
        bound = self._bound(allocation)
        if not bound:
            self._log.debug("allocation_of_others", slice=allocation.slice, resources=sorted(allocation.values))
            return
        one = self._slices.setdefault(allocation.slice, _Slice())
        if one.spec is None:
            raise SpecMissing(f"slice {allocation.slice}: bucket slices has no spec of it; put one there")
        last = one.standing.newest
        pool = self._pool(allocation, bound)
        try:
            check_epoch(allocation, last)
            if last is None or last.epoch < allocation.epoch:
                check_values(allocation, one.spec)
            check_units(allocation, pool, self._units(bound))
        except PermanentError as error:
            self._refuse(allocation, bound, str(error))
            raise
        one.standing.take(allocation, self._clock())
        self._follow(allocation.slice)

    def see(self, telemetry: Telemetry) -> None:
        """Compare what a slice used in a slot with what it has."""
        one = self._slices.get(telemetry.slice)
        if one is None:
            return
        for resource, usage in telemetry.usage.items():
            if worker := one.workers.get(resource):
                worker.see(usage, telemetry.time)

    def restore(self, slice_: str, kept: Iterable[Allocation]) -> None:
        """Go back to what was accepted before a restart, whatever the slice's bounds have become since.

        What another actuator accepted, and this one's drivers cannot take for its units, is left out.

        Raises:
            SpecMissing: the slice's pool has no spec yet.
        """
        standing = self._slices.setdefault(slice_, _Slice()).standing
        for allocation in kept:
            bound = self._bound(allocation)
            pool = self._pool(allocation, bound)
            try:
                check_units(allocation, pool, self._units(bound))
            except PermanentError as error:
                self._refuse(allocation, bound, str(error))
                continue
            standing.take(allocation, self._clock())
        self._follow(slice_)

    async def follow_clock(self) -> None:
        """Follow each start and each expiry when it comes, for ever."""
        while True:
            self._sooner.clear()
            self.follow_due()
            pause_s = (self._wake_at - self._clock()).total_seconds()
            try:
                async with asyncio.timeout(min(max(pause_s, 0.0), LONGEST_SLEEP_S)):
                    await self._sooner.wait()
            except TimeoutError:
                continue

    def follow_due(self) -> None:
        """Switch what begins, and let the blind policy rule where an allocation has expired, as of now."""
        now = self._clock()
        for name, one in self._slices.items():
            if one.next_change() <= now:
                self._follow(name)
        self._wake_at = min((one.next_change() for one in self._slices.values()), default=_NEVER)

    def _follow(self, slice_: str) -> None:
        """Tell the workers what holds now."""
        one, now = self._slices[slice_], self._clock()
        one.standing.switch(now)
        if one.standing.ruling is not None:
            now_holds = plan(one.standing.ruling, one.spec, now)
            self._say_whether_blind(slice_, one, one.standing.ruling, now_holds)
            for resource in one.workers.keys() - now_holds.values.keys():
                one.workers[resource].let_go()
            for resource, value in now_holds.values.items():
                if worker := self._worker(slice_, resource):
                    worker.want(_wish(one.standing.ruling, now_holds, value, one.standing.since_s))
        if one.next_change() < self._wake_at:
            self._sooner.set()

    def _say_whether_blind(self, slice_: str, one: _Slice, ruling: Allocation, now_holds: Plan) -> None:
        blind = now_holds.blind is not None
        self._metrics.blind.labels(slice_).set(blind)
        if blind and not one.blind:
            one.standing.since_s = time.monotonic()
            self._log.warning(
                "allocation_expired",
                slice=slice_,
                epoch=ruling.epoch,
                valid_until=ruling.valid_until.isoformat(),
                policy=now_holds.blind,
                values=dict(now_holds.values),
            )
        elif one.blind and now_holds.keep:
            self._log.info("allocation_fresh_again", slice=slice_)
        one.blind = blind

    def _held(self, ruling: Allocation) -> dict[str, float]:
        """Return what each bound resource was asked to have last."""
        values = {name: ruling.values[name] for name in self._bound(ruling)}
        wished = ((name, worker.wished) for name, worker in self._slices[ruling.slice].workers.items())
        return values | {name: value for name, value in wished if value is not None}

    def _pool(self, allocation: Allocation, bound: Mapping[str, Bound]) -> PoolSpec | None:
        """Return the pool whose units count; None is one that no driver asks for."""
        pool = self._pools.get(allocation.pool)
        if pool is None and any(unit is not None for unit in self._units(bound).values()):
            raise SpecMissing(
                f"slice {allocation.slice}: bucket pools has no spec of pool {allocation.pool}, which says in "
                "which units it counts; put one there"
            )
        return pool

    def _bound(self, allocation: Allocation) -> dict[str, Bound]:
        found = ((name, self._bindings.find(allocation.slice, name)) for name in allocation.values)
        return {name: bound for name, bound in found if bound is not None}

    def _units(self, bound: Mapping[str, Bound]) -> dict[str, str | None]:
        return {name: self._drivers[where.driver].unit for name, where in bound.items()}

    def _worker(self, slice_: str, resource: str) -> Worker | None:
        """Return the worker of a resource, or None where the resource is not bound here."""
        workers = self._slices[slice_].workers
        bound = self._bindings.find(slice_, resource)
        if bound is not None and resource not in workers:
            workers[resource] = Worker(
                slice_,
                resource,
                self._drivers[bound.driver],
                bound.target,
                report=self._report,
                metrics=self._metrics,
                check_every_s=self._check_every_s,
                clock=self._clock,
                turns=self._turns,
            )
            self._start(workers[resource])
        return workers.get(resource)

    def _start(self, worker: Worker) -> None:
        if self._group is not None:
            self._group.create_task(worker.run(), name=f"worker:{worker.slice}:{worker.resource}")

    def _refuse(self, allocation: Allocation, bound: Mapping[str, Bound], error: str) -> None:
        for report in refusals(allocation, bound, error, self._clock()):
            self._report(report)


def _wish(allocation: Allocation, now_holds: Plan, value: float, since_s: float) -> Wish:
    # What a blind policy asks for does not come from that forecast.
    made_at = allocation.forecast_made_at if now_holds.blind is None else None
    return Wish(
        allocation.epoch, value, since_s, keep=now_holds.keep, forecast_made_at=made_at, pool=allocation.pool
    )
