"""What slices have, as the actuators tell it, where the bus has forgotten their allocations (docs/adr/0018)."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from microopt import subjects
from microopt.bus import Bus
from microopt.messages import Allocation, Held, Holding, Holdings, Interval
from microopt.specs import SliceSpec
from microopt_optimizer.router.state import RouterState

LONGEST_S: Final = 1.0
SHARE_OF_LEASE: Final = 1 / 3
"""Who waits for answers does not renew the lease meanwhile."""
QUIET: Final = 0.5
"""The share of that time after which nobody else is expected to answer."""
OPTIMIZER: Final = "read-back"


class ReadBack:
    """Fills in the last allocations that are in no stream, with what the actuators hold."""

    def __init__(self, bus: Bus, state: RouterState, lease_s: float) -> None:
        self._bus = bus
        self._state = state
        self._within_s = min(LONGEST_S, SHARE_OF_LEASE * lease_s)
        self._answered: set[str] = set()
        self._log = structlog.get_logger("microopt.router")

    async def begin(self, pool: str, former: Mapping[str, Allocation]) -> int:
        """Fill in a pool that this router leads from now on, and return the highest epoch given out there.

        `former` is what this router knew when it led the pool before; it counts where no actuator has a newer one.
        """
        unknown = self._unknown(pool)
        epoch = await self._ask(unknown)
        self._answered -= set(unknown)
        for name in unknown:
            mine, theirs = former.get(name), self._state.allocations.get(name)
            if mine is not None and (theirs is None or mine.epoch >= theirs.epoch):
                self._state.allocations[name] = mine
        return max(epoch, self._highest(pool))

    async def fill(self, pool: str) -> int:
        """Ask again for what is still unknown when it is to be decided on: actuators may have come later.

        Returns the highest epoch, as `begin` does. No slice is asked for any more once somebody answered.
        """
        unknown = {name: spec for name, spec in self._unknown(pool).items() if name not in self._answered}
        return max(await self._ask(unknown), self._highest(pool)) if unknown else 0

    async def _ask(self, unknown: Mapping[str, SliceSpec]) -> int:
        if not unknown:
            return 0
        question = Held(slices={name: tuple(spec.bounds) for name, spec in unknown.items()})
        answers = await self._bus.request_all(
            subjects.HELD, question, Holdings, within_s=self._within_s, quiet_s=QUIET * self._within_s
        )
        if answers:
            self._answered |= set(unknown)
        found = merged(answers)
        for name, spec in unknown.items():
            if name in found and (last := as_allocation(spec, found[name], datetime.now(UTC))) is not None:
                self._state.allocations[name] = last
                self._log.warning("allocation_read_back", slice=name, epoch=last.epoch, values=last.values)
        return max((holding.epoch for holding in found.values()), default=0)

    def _unknown(self, pool: str) -> dict[str, SliceSpec]:
        return {
            name: spec
            for name, spec in self._state.slices.items()
            if spec.pool == pool and self._state.allocations.get(name) is None
        }

    def _highest(self, pool: str) -> int:
        known = (self._state.allocations.get(n) for n, spec in self._state.slices.items() if spec.pool == pool)
        return max((one.epoch for one in known if one is not None), default=0)


def merged(answers: Iterable[Holdings]) -> dict[str, Holding]:
    """Return what all actuators hold together; of a resource that several tell, the value of the highest epoch."""
    epochs: dict[str, int] = {}
    values: dict[str, dict[str, float]] = {}
    parts = [holding for answer in answers for holding in answer.slices]
    for holding in sorted(parts, key=lambda one: one.epoch):
        epochs[holding.slice] = holding.epoch
        values.setdefault(holding.slice, {}).update(holding.values)
    return {name: Holding(slice=name, epoch=epochs[name], values=values[name]) for name in epochs}


def as_allocation(spec: SliceSpec, holding: Holding, now: datetime) -> Allocation | None:
    """Return what is held as the slice's last allocation, or None where a resource is unknown.

    Its interval is over: it is where the next answer is smoothed from, and answers no forecast.
    """
    if not set(spec.bounds) <= set(holding.values):
        return None
    begun = now - timedelta(seconds=2.0 * spec.interval_s)
    return Allocation(
        slice=spec.slice,
        pool=spec.pool,
        interval=Interval(begun, spec.interval_s),
        epoch=max(holding.epoch, 1),
        values={name: holding.values[name] for name in spec.bounds},
        valid_until=begun + timedelta(seconds=spec.interval_s),
        optimizer=OPTIMIZER,
        status="feasible",
        reason="read back from the actuators; the bus does not know it",
        fallback="force",
    )
