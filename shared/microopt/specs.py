"""Desired state, as kept in the KV buckets `slices`, `pools` and `routes`, and read by every agent."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from microopt.ids import NAME_PATTERN, SLICE_PATTERN

_SliceId = Annotated[str, Meta(pattern=SLICE_PATTERN)]
_Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
_Positive = Annotated[float, Meta(gt=0.0, le=1e12)]
_Quantity = Annotated[float, Meta(ge=0.0, le=1e12)]
_Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
_Seconds = Annotated[float, Meta(ge=0.001, le=31 * 86_400.0)]

BlindPolicy = Literal["hold", "peak", "max"]


class Sla(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A QoS threshold and how much of the user-time may miss it (q_thresh and β_thresh of the paper)."""

    qos_threshold: _Positive
    degradation_threshold: Annotated[float, Meta(gt=0.0, lt=1.0)]
    qos_metric: _Name = "dl_thpt_per_ue"
    """Named after the attribute of TS 28.541 where there is one; this one is dLThptPerUE."""
    qos_unit: str = "Mbit/s"
    higher_is_better: bool = True

    def tightened(self, margin: float) -> "Sla":
        """Return the SLA with its QoS threshold better by the share `margin`."""
        factor = 1.0 + margin if self.higher_is_better else 1.0 - margin
        return replace(self, qos_threshold=self.qos_threshold * factor)


class Bounds(Struct, frozen=True, forbid_unknown_fields=True):
    """The least and the most that a slice may be given of one resource."""

    floor: _Quantity
    ceiling: _Positive

    def __post_init__(self) -> None:
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor:g} is above ceiling {self.ceiling:g}")


class ResourceSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A resource that the slices of a pool share: its weight η per unit, and its capacity R."""

    unit: str
    weight: _Positive
    capacity: _Quantity


class PeakSla(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What static planning for the peak assumes (Peak-alloc, paper §VI-A2)."""

    users: _Positive = 5.0
    qos_threshold: _Positive = 5.0
    degradation_threshold: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.01


class PoolSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="microopt.pool.v1"):
    """Slices that share capacities."""

    pool: _Name
    resources: Annotated[dict[_Name, ResourceSpec], Meta(min_length=1)]


class SliceSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="microopt.slice.v1"):
    """One slice: its SLA, its pool, the bounds of its resources, and its times.

    `lead_s` is how long before an interval its forecast is made (default: one slot), by the model that does best
    (`auto`) or by the `forecast_model` that is named. `qos_margin` tightens the QoS threshold that optimizers are
    asked for, against errors of the slice model (docs/adr/0004-qos-margin.md).
    `blind_policy` rules when no fresh allocation can be had: `hold` the last one, take `peak_allocation`, or the
    `max` of both.
    """

    slice: _SliceId
    pool: _Name
    sla: Sla
    bounds: Annotated[dict[_Name, Bounds], Meta(min_length=1)]
    model: _Name
    interval_s: _Seconds = 3600.0
    slot_s: _Seconds = 60.0
    season_s: _Seconds = 86_400.0
    lead_s: _Seconds | None = None
    forecast_model: _Name = "auto"
    qos_margin: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.1
    peak: PeakSla = PeakSla()
    peak_allocation: dict[_Name, _Quantity] = {}
    blind_policy: BlindPolicy = "hold"
    priority: int = 0

    def __post_init__(self) -> None:
        if self.slot_s > self.interval_s:
            raise ValueError(f"slot_s {self.slot_s:g} is longer than interval_s {self.interval_s:g}")
        if self.lead_s is not None and self.lead_s > self.interval_s:
            raise ValueError(f"lead_s {self.lead_s:g} is longer than interval_s {self.interval_s:g}")
        if self.blind_policy != "hold" and set(self.peak_allocation) != set(self.bounds):
            raise ValueError(f"blind_policy {self.blind_policy!r} needs peak_allocation for {sorted(self.bounds)}")


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="microopt.route.v1"):
    """Which optimizer answers for a pool, and which only watch; who changed it, when and why."""

    pool: _Name
    active: _Name
    shadows: tuple[_Name, ...] = ()
    changed_at: Annotated[datetime, Meta(tz=True)] | None = None
    changed_by: str = ""
    reason: str = ""


def key_of(spec: Any) -> str | None:
    """Return the key that `spec` must stand under in its bucket, or None for what may stand anywhere."""
    if isinstance(spec, SliceSpec):
        return spec.slice
    if isinstance(spec, (PoolSpec, Route)):
        return spec.pool
    return None
