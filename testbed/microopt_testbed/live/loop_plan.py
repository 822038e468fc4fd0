"""What a closed loop on live slices plays: which SLA each slice has in which phase, and at what pace."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from microopt.desired import Desired
from microopt.specs import PoolSpec, Route, Sla, SliceSpec
from microopt_testbed.emulator_agent import EmulatedSliceSettings, EmulatorSettings
from microopt_testbed.live.knobs import actuator_table
from microopt_testbed.live.lab import Lab
from microopt_testbed.live.scale import Scale
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH
from microopt_testbed.traffic import SQUARES

POOL: Final = "live-site"
MODEL: Final = "live"
MEASUREMENT: Final = "live.measurement"
LEAD_SLOTS: Final = 4
"""Before an interval, so that a decision has been made and written when it begins."""
SLICES: Final = ("1-000001", "1-000002")
_WEDNESDAY: Final = 2
_MORNING_H: Final = 7.0


@dataclass(frozen=True, kw_only=True)
class LoopPlan:
    """Each phase gives every slice an SLA for `intervals` intervals; the agents run on from phase to phase."""

    scale: Scale
    slas: tuple[Sla, ...]
    """In the order in which they are played, as many at a time as there are slices."""
    intervals: int = 9
    slots_per_interval: int = 20
    slot_s: float = 1.0
    intervals_per_day: int = 24
    history_days: int = 14
    seed: int = 7

    @property
    def interval_s(self) -> float:
        """Return the length of an interval."""
        return self.slot_s * self.slots_per_interval

    @property
    def phases(self) -> list[dict[str, Sla]]:
        """Return each phase's SLA of each slice; the last phase is filled up with the first SLAs."""
        together = len(SLICES)
        count = ceil(len(self.slas) / together)
        every = [self.slas[index % len(self.slas)] for index in range(count * together)]
        return [dict(zip(SLICES, every[at : at + together], strict=True)) for at in range(0, len(every), together)]

    @property
    def phase_s(self) -> float:
        """Return the length of a phase."""
        return self.intervals * self.interval_s

    def pool(self) -> PoolSpec:
        """Return the pool that the slices share."""
        return PoolSpec(pool=POOL, resources=self.scale.resources(len(SLICES)))

    def spec(self, slice_: str, sla: Sla, peak: dict[str, float]) -> SliceSpec:
        """Return a slice with `sla`; when nothing is known it has at least what was planned for the peak."""
        return SliceSpec(
            slice=slice_,
            pool=POOL,
            sla=sla,
            bounds=self.scale.bounds,
            model=MODEL,
            interval_s=self.interval_s,
            slot_s=self.slot_s,
            season_s=self.interval_s * self.intervals_per_day,
            lead_s=LEAD_SLOTS * self.slot_s,
            peak=self.scale.peak,
            peak_allocation=peak,
            blind_policy="max" if peak else "hold",
        )

    def desired(self, peak: dict[str, float]) -> Desired:
        """Return what is wished in the first phase."""
        slices = [self.spec(name, sla, peak) for name, sla in self.phases[0].items()]
        route = Route(pool=POOL, active="microopt", changed_by="testbed", reason="the closed loop on live slices")
        return Desired(pools=[self.pool()], slices=slices, routes=[route])

    def traffic(self, start_s: float) -> EmulatorSettings:
        """Return whose traffic the slices have: that of the Milan squares, from a morning on."""
        return EmulatorSettings(
            slices=[
                EmulatedSliceSettings(slice=name, square=square, resources={}, seed=self.seed)
                for name, square in zip(SLICES, SQUARES, strict=True)
            ],
            slot_s=self.slot_s,
            slots_per_interval=self.slots_per_interval,
            intervals_per_day=self.intervals_per_day,
            weekday=_WEDNESDAY,
            hour=_MORNING_H,
            days=ceil(len(self.phases) * self.intervals / self.intervals_per_day),
            history_days=self.history_days,
            start=start_s,
        )


def tables(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return the agents, each with its table of settings."""
    heard = {
        "kind": "nats",
        "name": "ue",
        "subject": f"{MEASUREMENT}.*",
        "slice_field": "snssai",
        "time_field": "timestamp",
        "users_field": "ues",
        "qos_field": "dl_thpt_per_ue_mbps",
        "usage_fields": {TRANSPORT_BANDWIDTH: "transport_mbps"},
    }
    read = {
        "kind": "cgroup",
        "period_s": lab.settings.slot_s,
        "groups": _groups(lab.settings.slices, lab),
    }
    return {
        "collector": {"sources": [heard, read]},
        "forecaster": {},
        "router": {},
        "optimizer": {},
        "actuator": actuator_table(lab),
    }


def _groups(slices: Sequence[str], lab: Lab) -> list[dict[str, str]]:
    return [{"slice": name, "resource": GNB_CPU, "path": lab.cgroup(name)} for name in slices]
