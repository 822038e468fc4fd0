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
from microopt.specs import Margin, SliceSpec
from microopt_optimizer.auditor.margin import DEFAULT, MarginSettings, updated
from route.world import USERS, WEIGHTS, Exact, Floats, Model, World

OPTIMISM: Final = 1.15
SLOTS: Final = 3600
IN_A_ROW: Final = 3
"""Fulfilled intervals that make a recovery."""
_FIRST: Final = datetime(2024, 1, 1, tzinfo=UTC)

TRUTH: Final = Exact()
ONE_FOR_ALL_LOADS: Final = replace(DEFAULT, levels=False)
_IN_DEGRADATION_ALONE: Final = replace(DEFAULT, qos_a_deviation=0.0)
"""What can be done without touching the QoS threshold."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a slice is run: by which model, and whether and how its margin adapts."""

    model: Model = TRUTH
    adapts: bool = True
    qos_margin: float = 0.0
    late: int = 1
    """Intervals that are already asked for when the result of one is known."""
    settings: MarginSettings = DEFAULT


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
        assurance = _played(world, setup.model, spec, margin, interval, rng)
        margins.append(updated(margins[-1], spec, assurance, setup.settings) or margins[-1])
        if assurance.users_slots:
            fulfilled.append(assurance.status == "FULFILLED")
            costs.append(assurance.cost)
    return Course(np.array(fulfilled), np.array(costs), margins[setup.late + 1 :])


def _played(
    world: World, model: Model, spec: SliceSpec, margin: Margin | None, interval: int, rng: np.random.Generator
) -> Assurance:
    """Return what came of what the optimizer answers on the slice's model."""
    counts = world.counts[interval]
    at = margin.qos_margin_at(float(counts @ USERS) / world.slots) if margin else None
    tightened = spec.qos_margin if at is None else at
    threshold = spec.sla.tightened(tightened).qos_threshold
    asked = margin.degradation_threshold if margin else spec.sla.degradation_threshold
    allocation = model.answer(world, interval, threshold, asked)
    missed = rng.binomial(counts, world.missing(allocation, spec.sla.qos_threshold))
    realised = world.share(interval, missed)
    start = _FIRST + interval * timedelta(seconds=spec.interval_s)
    return Assurance(
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
        expected_degradation=min(1.0, model.expected(world, interval, threshold, allocation)),
        realised=realised,
        users_slots=float(counts @ USERS),
        slots=world.slots,
        known_slots=world.slots,
    )


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


def _ratio(pairs: list[tuple[Floats, Floats]]) -> float | None:
    """Return by which share the first cost more in all, or None where nothing is left to compare."""
    theirs = sum(float(one.sum()) for _, one in pairs)
    return sum(float(one.sum()) for one, _ in pairs) / theirs - 1.0 if theirs else None


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
        "optimistic_model": Setup(model=Exact(OPTIMISM)),
        "optimistic_model_one_for_all_loads": Setup(model=Exact(OPTIMISM), settings=ONE_FOR_ALL_LOADS),
        "optimistic_without_margin": Setup(model=Exact(OPTIMISM), adapts=False),
        "optimistic_fixed_qos_margin": Setup(model=Exact(OPTIMISM), adapts=False, qos_margin=0.1),
        "optimistic_model_in_degradation_alone": Setup(model=Exact(OPTIMISM), settings=_IN_DEGRADATION_ALONE),
        "good_model": Setup(),
        "good_model_from_fixed": Setup(qos_margin=0.1),
        "good_fixed_qos_margin": Setup(adapts=False, qos_margin=0.1),
    }
    found = compared(setups, range(1000, 1000 + seeds), intervals, slots)
    found["good_model"]["margin_cost"] = found["good_model"]["cost_vs_oracle_from_first"]
    return {**found, "seeds": seeds, "intervals": intervals, "slots": slots}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
