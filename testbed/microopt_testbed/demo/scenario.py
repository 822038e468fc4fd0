"""What the demo plays: two slices that share a cell site, an accelerated day, one swap and one crash."""

from dataclasses import dataclass
from typing import Any, Final

from microopt.desired import Desired
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Route, Sla, SliceSpec
from microopt_testbed.emulator_agent import EmulatedSliceSettings, EmulatorSettings
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH

POOL: Final = "cell-site"
MODEL: Final = "embb"
VIDEO: Final = "1-000001"
BROWSING: Final = "1-000002"
SLAS: Final = {
    VIDEO: Sla(qos_threshold=4.0, degradation_threshold=0.1),
    BROWSING: Sla(qos_threshold=3.0, degradation_threshold=0.2),
}
SQUARES: Final = {VIDEO: 4159, BROWSING: 5161}
WEIGHTS: Final = {TRANSPORT_BANDWIDTH: 1 / 50, GNB_CPU: 1 / 4500}  # η of paper §V-D
UNITS: Final = {TRANSPORT_BANDWIDTH: "Mbit/s", GNB_CPU: "millicores"}
BOUNDS: Final = {TRANSPORT_BANDWIDTH: Bounds(5.0, 50.0), GNB_CPU: Bounds(500.0, 4500.0)}
CAPACITY: Final = {TRANSPORT_BANDWIDTH: 100.0, GNB_CPU: 9000.0}
WEDNESDAY: Final = 2


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How fast the day is played, and what happens in it."""

    intervals: int = 24
    intervals_per_day: int = 24
    interval_s: float = 5.0
    slots_per_interval: int = 50
    history_days: int = 14
    """A week that the forecast looks back to, and a week of forecasts to learn from."""
    grace: float = 0.1
    """The router's default: how long an allocation outlives its interval, in intervals."""
    seed: int = 7
    qos_margin: float = 0.10
    """The default of a slice (ADR 4)."""
    audited: bool = False
    """With the auditor, intervals are judged and margins adapt (ADR 17)."""

    @property
    def swap_at(self) -> int:
        """Return the interval from which on the pool is routed to microopt; before, to peak."""
        return max(1, self.intervals // 12)

    @property
    def kill_at(self) -> int:
        """Return the interval right before which the optimizer process is killed."""
        return self.intervals // 2

    @property
    def slot_s(self) -> float:
        """Return the real length of a slot."""
        return self.interval_s / self.slots_per_interval

    @property
    def season_s(self) -> float:
        """Return the real length of the emulated day; forecasts look back seven of them to the same weekday."""
        return self.interval_s * self.intervals_per_day

    def emulator(self, start_s: float, peak: dict[str, float]) -> EmulatorSettings:
        """Return the outside world, which begins at `start_s` with the static allocation for the peak."""
        return EmulatorSettings(
            slices=[
                EmulatedSliceSettings(slice=name, square=square, resources=peak, seed=self.seed)
                for name, square in SQUARES.items()
            ],
            slot_s=self.slot_s,
            slots_per_interval=self.slots_per_interval,
            intervals_per_day=self.intervals_per_day,
            weekday=WEDNESDAY,
            history_days=self.history_days,
            start=start_s,
        )

    def desired(self, peak: dict[str, float]) -> Desired:
        """Return pool, slices and the first route; when blind, a slice has at least the static allocation."""
        resources = {
            name: ResourceSpec(unit=UNITS[name], weight=WEIGHTS[name], capacity=CAPACITY[name]) for name in WEIGHTS
        }
        slices = [
            SliceSpec(
                slice=name,
                pool=POOL,
                sla=sla,
                bounds=BOUNDS,
                model=MODEL,
                interval_s=self.interval_s,
                slot_s=self.slot_s,
                season_s=self.season_s,
                lead_s=4 * self.slot_s,
                peak_allocation=peak,
                qos_margin=self.qos_margin,
                blind_policy="max",
            )
            for name, sla in SLAS.items()
        ]
        route = Route(pool=POOL, active="peak", changed_by="demo", reason="how the slices were planned before")
        return Desired(pools=[PoolSpec(pool=POOL, resources=resources)], slices=slices, routes=[route])


def tables(plan: Scenario) -> dict[str, dict[str, Any]]:
    """Return each agent's table of settings, by role; these are the agents that play."""
    found: dict[str, dict[str, Any]] = {role: {} for role in ("collector", "forecaster", "router", "optimizer")}
    found["actuator"] = actuator_table()
    if plan.audited:
        found["auditor"] = {"late_s": 4 * plan.slot_s, "look_every_s": 0.2}
    return found


def actuator_table() -> dict[str, Any]:
    """Return [actuator]: every resource of every slice is the emulator's."""
    return {
        "bindings": [
            {"slice": "*", "resource": resource, "driver": "testbed", "target": "{slice}.{resource}"}
            for resource in WEIGHTS
        ],
        "check_every_s": 1.0,
    }
