"""What the adaptive margin does with a slice model that is too optimistic, and what it costs with a good one."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean, median
from typing import Any, Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from microopt.messages import Assurance, Interval
from microopt.specs import Bounds, Margin, Sla, SliceSpec
from microopt_optimizer.auditor.margin import DEFAULT, MarginSettings, updated
from microopt_testbed.oracle import cheapest_allocation
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH, QosSurface
from microopt_testbed.traffic import SQUARES, MilanProfile, SlotCalendar, draw_users

WEIGHTS: Final = {GNB_CPU: 1 / 4500, TRANSPORT_BANDWIDTH: 1 / 50}
BOUNDS: Final = {GNB_CPU: (500.0, 4500.0), TRANSPORT_BANDWIDTH: (5.0, 50.0)}
SLAS: Final = (
    Sla(qos_threshold=4.0, degradation_threshold=0.1),
    Sla(qos_threshold=3.0, degradation_threshold=0.2),
)
OPTIMISM: Final = 1.15
MOST_USERS: Final = 5
USERS: Final = np.arange(1, MOST_USERS + 1)
SLOTS: Final = 3600
IN_A_ROW: Final = 3
"""Fulfilled intervals that make a recovery."""
_STEPS: Final = 41
_FIRST: Final = datetime(2024, 1, 1, tzinfo=UTC)

_IN_DEGRADATION_ALONE: Final = replace(DEFAULT, qos_a_deviation=0.0)
"""What can be done without touching the QoS threshold."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a slice is run: by how much its model is too optimistic, and whether and how its margin adapts."""

    optimism: float = 1.0
    adapts: bool = True
    qos_margin: float = 0.0
    late: int = 1
    """Intervals that are already asked for when the result of one is known."""
    settings: MarginSettings = DEFAULT


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

    def cheapest(self, interval: int, qos_threshold: float, target: float) -> dict[str, float]:
        """Return the cheapest allocation for the interval's own users, or the ceilings where none is enough."""
        users = np.repeat(USERS, self.counts[interval])
        found = cheapest_allocation(self.surface, users, qos_threshold, target, WEIGHTS, BOUNDS, _STEPS)
        return found.allocation if found else {name: ends[1] for name, ends in BOUNDS.items()}

    def missing(self, allocation: dict[str, float], qos_threshold: float) -> Floats:
        """Return P(QoS <= threshold) for 1 to 5 users."""
        return self.surface.degradation(qos_threshold, USERS, allocation[GNB_CPU], allocation[TRANSPORT_BANDWIDTH])

    def share(self, interval: int, missed: Floats) -> float:
        """Return the share of the user-time that missed, of the slots missed (5,) by number of users."""
        total = float(USERS @ self.counts[interval])
        return float(USERS @ missed) / total if total else 0.0


@dataclass(frozen=True, eq=False)
class Course:
    """What became of each interval that had users: fulfilled or not, cost, and the margin after it."""

    fulfilled: Bools
    cost: Floats
    margins: list[Margin | None]

    @property
    def recovered_after(self) -> int:
        """Return how many intervals it took before the SLA was fulfilled three times in a row."""
        runs = np.convolve(self.fulfilled, np.ones(IN_A_ROW), "valid") == IN_A_ROW
        return int(np.argmax(runs)) if runs.any() else len(self.fulfilled)


def run(world: World, setup: Setup, seed: int) -> Course:
    """Play the intervals one by one: optimizer, reality, assurance, margin."""
    rng = np.random.default_rng([seed, 1])
    spec = replace(world.spec, qos_margin=setup.qos_margin)
    margins: list[Margin | None] = [None] * (setup.late + 1)
    fulfilled, costs = [], []
    for interval in range(len(world.counts)):
        margin = margins[-1 - setup.late] if setup.adapts else None
        assurance = _played(world, setup.optimism, spec, margin, interval, rng)
        margins.append(updated(margins[-1], spec, assurance, setup.settings) or margins[-1])
        if assurance.users_slots:
            fulfilled.append(assurance.status == "FULFILLED")
            costs.append(assurance.cost)
    return Course(np.array(fulfilled), np.array(costs), margins[setup.late + 1 :])


def _played(
    world: World, optimism: float, spec: SliceSpec, margin: Margin | None, interval: int, rng: np.random.Generator
) -> Assurance:
    """Return what came of what the optimizer answers on the slice's model.

    A model that says 15 % more QoS than there is sees the truth at a threshold that is 15 % lower.
    """
    tightened = spec.qos_margin if margin is None or margin.qos_margin is None else margin.qos_margin
    threshold = spec.sla.tightened(tightened).qos_threshold / optimism
    asked = margin.degradation_threshold if margin else spec.sla.degradation_threshold
    allocation = world.cheapest(interval, threshold, asked)
    counts = world.counts[interval]
    missed = rng.binomial(counts, world.missing(allocation, spec.sla.qos_threshold))
    realised = world.share(interval, missed)
    start = _FIRST + interval * timedelta(seconds=spec.interval_s)
    assurance = Assurance(
        slice=spec.slice,
        pool=spec.pool,
        interval=Interval(start, spec.interval_s),
        epoch=interval + 1,
        optimizer="exact",
        status="FULFILLED" if realised <= spec.sla.degradation_threshold else "NOT_FULFILLED",
        degradation_threshold=spec.sla.degradation_threshold,
        cost=sum(WEIGHTS[name] * value for name, value in allocation.items()),
        at=start + timedelta(seconds=spec.interval_s),
        asked_threshold=asked,
        expected_degradation=min(1.0, world.share(interval, counts * world.missing(allocation, threshold))),
        realised=realised,
        users_slots=float(counts @ USERS),
        slots=int(counts.sum()),
        known_slots=int(counts.sum()),
    )
    return assurance


def summary(courses: list[Course], oracles: list[Course]) -> dict[str, Any]:
    """Return how runs went beside the oracle's of the same traffic; costs are sums over intervals."""
    after = [course.recovered_after for course in courses]
    pairs = list(zip(courses, oracles, after, strict=True))
    later = np.concatenate([course.fulfilled[start:] for course, _, start in pairs])
    return {
        "recovered_after_intervals": max(after),
        "recovered_after_median": median(after),
        "fulfilled": float(later.mean()) if later.size else 0.0,
        "fulfilled_least": min(
            float(c.fulfilled[s:].mean()) if s < len(c.fulfilled) else 0.0 for c, _, s in pairs
        ),
        "fulfilled_from_first": fmean(float(course.fulfilled.mean()) for course in courses),
        "cost_vs_oracle": _ratio([(c.cost[s:], o.cost[s:]) for c, o, s in pairs]),
        "cost_vs_oracle_from_first": _ratio([(c.cost, o.cost) for c, o, _ in pairs]),
    }


def _ratio(pairs: list[tuple[Floats, Floats]]) -> float:
    return float(sum(ours.sum() for ours, _ in pairs) / sum(theirs.sum() for _, theirs in pairs)) - 1.0


def compared(setups: dict[str, Setup], seeds: range, intervals: int, slots: int = SLOTS) -> dict[str, Any]:
    """Return each setup's summary beside the oracle, which knows the truth and asks for the SLA itself."""
    worlds = [World.drawn(seed, intervals, slots) for seed in seeds]
    oracles = [run(world, Setup(adapts=False), seed) for world, seed in zip(worlds, seeds, strict=True)]
    found = {"oracle": summary(oracles, oracles)}
    for name, setup in setups.items():
        found[name] = summary([run(w, setup, s) for w, s in zip(worlds, seeds, strict=True)], oracles)
    return found


def measure(seeds: int = 6, intervals: int = 168, slots: int = SLOTS) -> dict[str, Any]:
    """Return what the goal names, and the same without a margin and with the fixed one of ADR 4."""
    setups = {
        "optimistic_model": Setup(optimism=OPTIMISM),
        "optimistic_without_margin": Setup(optimism=OPTIMISM, adapts=False),
        "optimistic_fixed_qos_margin": Setup(optimism=OPTIMISM, adapts=False, qos_margin=0.1),
        "optimistic_model_in_degradation_alone": Setup(optimism=OPTIMISM, settings=_IN_DEGRADATION_ALONE),
        "good_model": Setup(),
        "good_model_from_fixed": Setup(qos_margin=0.1),
        "good_fixed_qos_margin": Setup(adapts=False, qos_margin=0.1),
    }
    found = compared(setups, range(1000, 1000 + seeds), intervals, slots)
    found["good_model"]["margin_cost"] = found["good_model"]["cost_vs_oracle_from_first"]
    return {**found, "seeds": seeds, "intervals": intervals, "slots": slots}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
