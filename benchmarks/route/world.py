"""One slice in the emulated testbed, hour after hour, and the slice models that it is allocated by."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from microopt.messages import Values
from microopt.specs import Bounds, Sla, SliceSpec
from microopt_testbed.oracle import cheapest_allocation
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH, QosSurface
from microopt_testbed.traffic import SQUARES, MilanProfile, SlotCalendar, draw_users

WEIGHTS: Final = {GNB_CPU: 1 / 4500, TRANSPORT_BANDWIDTH: 1 / 50}
BOUNDS: Final = {GNB_CPU: (500.0, 4500.0), TRANSPORT_BANDWIDTH: (5.0, 50.0)}
SLAS: Final = (
    Sla(qos_threshold=4.0, degradation_threshold=0.1),
    Sla(qos_threshold=3.0, degradation_threshold=0.2),
)
MOST_USERS: Final = 5
USERS: Final = np.arange(1, MOST_USERS + 1)
_STEPS: Final = 41

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """One slice's SLA, and the number of slots (intervals, 5) that had 1 to 5 users."""

    surface: QosSurface
    spec: SliceSpec
    counts: NDArray[np.int64]

    @classmethod
    def drawn(cls, seed: int, intervals: int, slots: int) -> "World":
        """Return hours from a random one of the week on, by the profile of a Milan square; SLAs take turns."""
        rng = np.random.default_rng(seed)
        calendar = SlotCalendar(
            slots, days=-(-intervals // 24), weekday=int(rng.integers(7)), hour=rng.integers(24)
        )
        level = MilanProfile.shipped(SQUARES[seed // 2 % 2]).level(calendar, rng)
        users = draw_users(level * MOST_USERS, MOST_USERS, rng).reshape(-1, slots)[:intervals]
        counts = np.stack([(users == number).sum(1) for number in range(1, MOST_USERS + 1)], axis=1)
        spec = SliceSpec(
            slice="1-000001",
            pool="cell-site",
            sla=SLAS[seed % 2],
            bounds={name: Bounds(*ends) for name, ends in BOUNDS.items()},
            model="embb",
            interval_s=3600.0,
            slot_s=3600.0 / slots,
        )
        return cls(QosSurface.shipped(), spec, counts)

    @property
    def slots(self) -> int:
        """Return the slots of an interval, those without users included."""
        return round(self.spec.interval_s / self.spec.slot_s)

    def missing(self, allocation: dict[str, float], qos_threshold: float) -> Floats:
        """Return P(QoS <= threshold) for 1 to 5 users."""
        return self.surface.degradation(qos_threshold, USERS, allocation[GNB_CPU], allocation[TRANSPORT_BANDWIDTH])

    def share(self, interval: int, missed: Floats) -> float:
        """Return the share of the user-time that missed, of the slots missed (5,) by number of users."""
        total = float(USERS @ self.counts[interval])
        return float(USERS @ missed) / total if total else 0.0


class Model(Protocol):
    """A slice model, with the optimizer on it."""

    def answer(self, world: World, interval: int, qos_threshold: float, target: float) -> Values:
        """Return the cheapest allocation for the interval's own users; the ceilings where none is enough."""
        ...

    def expected(self, world: World, interval: int, qos_threshold: float, allocation: Values) -> float:
        """Return what the model expects an allocation's degradation to be."""
        ...


@dataclass(frozen=True)
class Exact:
    """The truth, or with `optimism` above 1 what says that many times the QoS there is; solved on a grid.

    A model that says 15 % more QoS than there is sees the truth at a threshold that is 15 % lower.
    """

    optimism: float = 1.0

    def answer(self, world: World, interval: int, qos_threshold: float, target: float) -> Values:
        """Return the cheapest allocation for the interval's own users; the ceilings where none is enough."""
        users = np.repeat(USERS, world.counts[interval])
        threshold = qos_threshold / self.optimism
        found = cheapest_allocation(world.surface, users, threshold, target, WEIGHTS, BOUNDS, _STEPS)
        return found.allocation if found else {name: ends[1] for name, ends in BOUNDS.items()}

    def expected(self, world: World, interval: int, qos_threshold: float, allocation: Values) -> float:
        """Return what the model expects an allocation's degradation to be."""
        missing = world.missing(allocation, qos_threshold / self.optimism)
        return world.share(interval, world.counts[interval] * missing)
