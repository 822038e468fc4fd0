"""What a closed loop on live slices came to, for each pair of thresholds."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from microopt.messages import Telemetry
from microopt.specs import ResourceSpec, Sla
from microopt_testbed.live.loop import LoopRun
from microopt_testbed.live.scale import Scale

TOLERANCE: Final = 0.03
"""How far realised degradation may lie above its threshold: a phase has some hundred slots, no more."""
LEAST_SEEN: Final = 0.9


class PairOutcome(Struct, frozen=True, kw_only=True):
    """One slice in one phase.

    `paper_qos_threshold` is the paper's. Costs are means over the slots, of which `slots` are known: what the
    users got, and what was in force.
    """

    slice: str
    phase: int
    paper_qos_threshold: float
    qos_threshold: float
    degradation_threshold: float
    degradation: float
    cost: float
    cost_peak: float
    slots: int
    users: float

    @property
    def saving(self) -> float:
        """Return what was saved against Peak-alloc."""
        return 1.0 - self.cost / self.cost_peak


class LoopOutcome(Struct, frozen=True, kw_only=True):
    """A whole run; `states` counts the actuator's reports, `problems` says what did not work.

    `of` is the digest of what was played, and with which model.
    """

    of: str
    scale: Scale
    peak: dict[str, float]
    pairs: list[PairOutcome]
    states: dict[str, int]
    saving_vs_peak: float
    problems: list[str]


def judge(run: LoopRun, of: str) -> LoopOutcome:
    """Return what was realised of each pair, in the order of the plan."""
    plan = run.plan
    pairs = [
        _pair(run, phase, name, sla)
        for phase, slas in enumerate(plan.phases)
        for name, sla in slas.items()
    ][: len(plan.slas)]  # fmt: skip
    total, peak = sum(one.cost for one in pairs), sum(one.cost_peak for one in pairs)
    states = dict(Counter[str](report.state for report in run.record.actuations))
    return LoopOutcome(
        of=of,
        scale=plan.scale,
        peak=run.peak,
        pairs=pairs,
        states=states,
        saving_vs_peak=1.0 - total / peak,
        problems=[
            *_problems(pairs, states, plan.intervals * plan.slots_per_interval),
            *([f"Peak-alloc: {run.peak_lacks}"] if run.peak_lacks else []),
        ],
    )


def _pair(run: LoopRun, phase: int, slice_: str, sla: Sla) -> PairOutcome:
    plan, resources = run.plan, run.plan.pool().resources
    begin_s = run.start_s + phase * plan.phase_s
    seen = {
        one.time: one
        for one in run.record.telemetry
        if one.slice == slice_ and begin_s <= one.time.timestamp() < begin_s + plan.phase_s
    }
    slots = [one for one in seen.values() if _is_known(one)]
    costs = [cost(one.allocation, resources) for one in slots if one.allocation.keys() == resources.keys()]
    return PairOutcome(
        slice=slice_,
        phase=phase,
        paper_qos_threshold=round(sla.qos_threshold / plan.scale.factor, 3),
        qos_threshold=sla.qos_threshold,
        degradation_threshold=sla.degradation_threshold,
        degradation=degradation(slots, sla.qos_threshold),
        cost=sum(costs) / len(costs) if costs else math.nan,
        cost_peak=cost(run.peak, resources),
        slots=len(costs),
        users=sum(one.users or 0.0 for one in slots) / max(1, len(slots)),
    )


def _is_known(slot: Telemetry) -> bool:
    """Return whether it is known what the slice's users got."""
    return slot.users is not None and (slot.users == 0.0 or slot.qos is not None)


def degradation(slots: list[Telemetry], qos_threshold: float) -> float:
    """Return the share of user-time at or below the threshold (paper eq. 1); unknown slots do not count."""
    known = [(one.users, one.qos) for one in slots if one.users and one.qos is not None]
    total = sum(users for users, _ in known)
    return sum(users for users, qos in known if qos <= qos_threshold) / total if total else math.nan


def cost(allocation: Mapping[str, float], resources: Mapping[str, ResourceSpec]) -> float:
    """Return the weighted sum of an allocation."""
    return sum(one.weight * allocation[name] for name, one in resources.items())


def _problems(pairs: list[PairOutcome], states: Mapping[str, int], slots: int) -> list[str]:
    found = []
    for one in pairs:
        what = f"slice {one.slice}, at least {one.qos_threshold:g} Mbit/s, missed {one.degradation_threshold:g}"
        if one.slots < LEAST_SEEN * slots:
            found.append(f"{what}: only {one.slots} of {slots} slots are known")
        if not one.degradation <= one.degradation_threshold + TOLERANCE:
            found.append(f"{what}: degradation {one.degradation:.3f}")
    missing = [state for state in ("applied", "verified", "effective") if not states.get(state)]
    return found + [f"no allocation was {state}" for state in missing]
