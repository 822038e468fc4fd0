"""Desired state, as kept in the KV buckets `slices`, `pools` and `routes`, and read by every agent."""

import hashlib
import math
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from microopt.ids import NAME_PATTERN, SLICE_PATTERN

_SliceId = Annotated[str, Meta(pattern=SLICE_PATTERN)]
_Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
_Positive = Annotated[float, Meta(gt=0.0, le=1e12)]
_Quantity = Annotated[float, Meta(ge=0.0, le=1e12)]
_Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
_Seconds = Annotated[float, Meta(ge=0.001, le=31 * 86_400.0)]

FEWEST_USERS: Final = -40
MOST_USERS: Final = 80
"""Half octaves of a user between which margins differ: a millionth of one, and more than there can be."""

BlindPolicy = Literal["hold", "peak", "max"]
Mode = Literal["apply", "no-shrink", "frozen", "recommend"]
"""What becomes of an answer: applied; applied where it grows; what is in force is renewed; only published."""


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


class Criteria(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a canary must keep to be promoted, each beside the active optimizer on the same problems.

    `cost_ratio`: its cost by the active's, over its slices; `unfulfilled`: the share of its slices' intervals
    that missed the SLA; `failures`: the share of its answers that were late, refused or absent; `latency_s`: what
    95 % of its answers take at most.
    """

    cost_ratio: Annotated[float, Meta(gt=0.0, le=1e3)] = 1.01
    unfulfilled: _Ratio = 0.1
    failures: _Ratio = 0.05
    latency_s: _Seconds = 1.0


class Canary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An optimizer on probation for some slices of a pool: those that are named, or a share of all.

    After `intervals` judged intervals it is promoted if it keeps the `criteria`, and rolled back otherwise.
    """

    optimizer: _Name
    slices: tuple[_SliceId, ...] = ()
    share: _Ratio = 0.0
    intervals: Annotated[int, Meta(ge=1, le=100_000)] = 24
    criteria: Criteria = Criteria()
    since: Annotated[datetime, Meta(tz=True)] | None = None

    def __post_init__(self) -> None:
        if bool(self.slices) == bool(self.share):
            raise ValueError("a canary has either slices or a share above 0")

    def has(self, slice_: str) -> bool:
        """Return whether a slice is one of the canary's; a share that grows only adds slices."""
        if self.slices:
            return slice_ in self.slices
        digest = hashlib.sha256(f"{self.optimizer}/{slice_}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="microopt.route.v1"):
    """Which optimizers answer for a pool, which only watch, and what becomes of answers (docs/adr/0016).

    `fallbacks` are asked in order when the active fails; `exceptions` name another optimizer for single slices.
    `mode` holds for the pool, `modes` for single slices. It says who changed the route, when and why.
    """

    pool: _Name
    active: _Name
    shadows: tuple[_Name, ...] = ()
    fallbacks: tuple[_Name, ...] = ()
    exceptions: dict[_SliceId, _Name] = {}
    canary: Canary | None = None
    mode: Mode = "apply"
    modes: dict[_SliceId, Mode] = {}
    changed_at: Annotated[datetime, Meta(tz=True)] | None = None
    changed_by: str = ""
    reason: str = ""

    def optimizer_of(self, slice_: str) -> str:
        """Return whose answer a slice is to have."""
        if exception := self.exceptions.get(slice_):
            return exception
        if self.canary and self.canary.has(slice_):
            return self.canary.optimizer
        return self.active

    def mode_of(self, slice_: str) -> Mode:
        """Return what becomes of a slice's answers."""
        return self.modes.get(slice_, self.mode)


class MarginLevel(Struct, frozen=True, kw_only=True):
    """The QoS margin with 2^(`half_octave`/2) users in a slot, and how many intervals have taught it, in parts."""

    half_octave: Annotated[int, Meta(ge=FEWEST_USERS, le=MOST_USERS)]
    qos_margin: Annotated[float, Meta(gt=-1.0, lt=1.0)]
    seen: Annotated[float, Meta(ge=0.0)] = 0.0


class Margin(Struct, frozen=True, kw_only=True, tag="microopt.margin.v1"):
    """The degradation threshold that optimizers are asked for in place of the SLA's, and why (docs/adr/0017).

    `qos_margin` takes the place of the slice's own, where there is one; below 0 it asks for less than the SLA. It
    is for loads of which nothing is known yet: slice models err by load, and the `levels` say by how much.
    `bias` is by how many standard deviations reality has been worse than the slice model said, `offset` what the
    long-run guarantee adds; `missed` is the share of the `judged` intervals in which the SLA was not fulfilled.
    `sla_threshold` is the degradation threshold of the SLA that it was made for.
    """

    slice: _SliceId
    degradation_threshold: Annotated[float, Meta(gt=0.0, lt=1.0)]
    sla_threshold: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None
    qos_margin: Annotated[float, Meta(gt=-1.0, lt=1.0)] | None = None
    bias: float = 0.0
    offset: float = 0.0
    judged: Annotated[int, Meta(ge=0)] = 0
    missed: _Ratio = 0.0
    at: Annotated[datetime, Meta(tz=True)] | None = None
    levels: Annotated[tuple[MarginLevel, ...], Meta(max_length=MOST_USERS - FEWEST_USERS + 1)] = ()

    def qos_margin_at(self, users: float) -> float | None:
        """Return the QoS margin of an interval with so many users in its mean slot, between its two levels."""
        if self.qos_margin is None:
            return None
        known = {level.half_octave: level.qos_margin for level in self.levels}
        return math.fsum(share * known.get(level, self.qos_margin) for level, share in levels_beside(users))


def levels_beside(users: float) -> list[tuple[int, float]]:
    """Return the half octaves below and above a number of users, each with how near it is, in all 1."""
    at = 2.0 * math.log2(users) if users > 0.0 else float(FEWEST_USERS)
    at = min(max(at, float(FEWEST_USERS)), float(MOST_USERS))
    below = min(math.floor(at), MOST_USERS - 1)
    return [(below, 1.0 - (at - below)), (below + 1, at - below)]


class ModelRoute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="microopt.model_route.v1"):
    """Which version of a slice model is in force for the slices that name it, and who changed that, when and why.

    Version 0 is the model without a version. `previous` was in force before, None where there was nothing.
    """

    model: _Name
    version: Annotated[int, Meta(ge=0)]
    previous: Annotated[int, Meta(ge=0)] | None = None
    changed_at: Annotated[datetime, Meta(tz=True)] | None = None
    changed_by: str = ""
    reason: str = ""


def key_of(spec: Any) -> str | None:
    """Return the key that `spec` must stand under in its bucket, or None for what may stand anywhere."""
    if isinstance(spec, (SliceSpec, Margin)):
        return spec.slice
    if isinstance(spec, (PoolSpec, Route)):
        return spec.pool
    if isinstance(spec, ModelRoute):
        return spec.model
    return None
