"""The messages on the bus, as JSON with a versioned type tag (subjects: `microopt.subjects`).

Unknown fields are ignored and new fields have defaults, so that old and new agents understand each other.
Values that no slice can have (NaN, negative, absurdly large) are refused when a message is decoded.
"""

import hashlib
import math
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from microopt.ids import NAME_PATTERN, SLICE_PATTERN, message_id, unix_ms
from microopt.specs import Bounds, PeakSla, ResourceSpec, Sla

SliceId = Annotated[str, Meta(pattern=SLICE_PATTERN, description="S-NSSAI, TS 29.571: SST or SST-SD")]
Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="one subject token")]
Time = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a time zone")]
Quantity = Annotated[float, Meta(ge=0.0, le=1e12)]
Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.001, le=31 * 86_400.0)]
Values = dict[Name, Quantity]
Shares = dict[Name, Ratio]
Text = Annotated[str, Meta(max_length=2_000)]

Quality = Literal["complete", "partial", "missing"]
Status = Literal["optimal", "feasible", "infeasible"]
ActuationState = Literal["applied", "verified", "effective", "ineffective", "refused", "failed"]

_WEIGHT_TOLERANCE = 1e-6


class Message(Struct, frozen=True, kw_only=True):
    """Base of everything that is published; subclasses add a tag such as `microopt.telemetry.v1`."""


class Interval(Struct, frozen=True):
    """A reconfiguration interval i of length τ_i (paper §III)."""

    start: Time
    duration_s: Seconds

    @property
    def end(self) -> datetime:
        """Return the first instant that is no longer inside."""
        return self.start + timedelta(seconds=self.duration_s)


class Telemetry(Message, frozen=True, tag="microopt.telemetry.v1"):
    """What was measured of one slice in one slot; `None` is unknown, never a number that looks good.

    Of each resource, where a source tells it: `usage` in the resource's unit, `pressure` (the share of the time in
    which something waited for it, the kernel's PSI "some") and `throttled` (the share of the enforcement periods
    that ran out of quota).
    """

    slice: SliceId
    time: Time
    slot_s: Seconds
    users: Quantity | None
    qos: Quantity | None
    allocation: Values = {}
    usage: Values = {}
    pressure: Shares = {}
    throttled: Shares = {}
    source: Text = ""
    quality: Quality = "complete"

    @property
    def message_id(self) -> str:
        """Return the id of this slot of this slice, whoever measured it."""
        return message_id("telemetry", self.slice, unix_ms(self.time))


class Traffic(Struct, frozen=True):
    """The number of users in a slot, as weighted atoms: P(users = users[j]) = weights[j]."""

    users: Annotated[tuple[Quantity, ...], Meta(min_length=1, max_length=1024)]
    weights: Annotated[tuple[Ratio, ...], Meta(min_length=1, max_length=1024)]

    def __post_init__(self) -> None:
        if len(self.users) != len(self.weights):
            raise ValueError(f"{len(self.users)} users but {len(self.weights)} weights")
        if abs(math.fsum(self.weights) - 1.0) > _WEIGHT_TOLERANCE:
            raise ValueError(f"weights sum to {math.fsum(self.weights):.6g}, not 1")

    @property
    def mean(self) -> float:
        """Return the expected number of users in a slot."""
        return math.fsum(u * w for u, w in zip(self.users, self.weights, strict=True))


class Band(Struct, frozen=True, kw_only=True):
    """Users between which a slot's, or the interval's mean, lies with probability `coverage`.

    `realised` is the share of the last `judged` intervals for which such a band held; `None` before there is one.
    """

    of: Literal["slot", "interval"]
    coverage: Ratio
    lower: Quantity
    upper: Quantity
    realised: Ratio | None = None
    judged: Annotated[int, Meta(ge=0)] = 0


class Forecast(Message, frozen=True, tag="microopt.forecast.v1"):
    """The traffic expected in the slots of one interval of one slice.

    `raised_from` is the mean that the model expected, where the traffic was raised to what is already observed;
    `bands` are the model's, before that. `observed_until` is where the telemetry ended that it was made from.
    """

    slice: SliceId
    interval: Interval
    traffic: Traffic
    model: Text
    made_at: Time
    bands: tuple[Band, ...] = ()
    raised_from: Quantity | None = None
    observed_until: Time | None = None

    @property
    def message_id(self) -> str:
        """Return the id of the forecast for this interval: replicas that agree on it say it once."""
        return message_id(
            "forecast", self.slice, unix_ms(self.interval.start), round(self.interval.duration_s * 1000)
        )


class SliceProblem(Struct, frozen=True, kw_only=True):
    """One slice of a pool's problem: hold `sla` at the least cost within `bounds`."""

    slice: SliceId
    sla: Sla
    traffic: Traffic
    bounds: dict[Name, Bounds]
    model: Name
    peak: PeakSla = PeakSla()
    current: Values = {}
    priority: int = 0


class Problem(Message, frozen=True, tag="microopt.problem.v1"):
    """Equation (2) of the paper for the slices of one pool in one interval.

    `resources` carries each resource's weight η and the capacity R left for these slices. A slice's `current`
    allocation and `capacity_prices` are the last interval's: where to begin, for a solver that can use it.
    """

    pool: Name
    interval: Interval
    resources: Annotated[dict[Name, ResourceSpec], Meta(min_length=1)]
    slices: Annotated[list[SliceProblem], Meta(min_length=1, max_length=10_000)]
    deadline_s: Seconds = 1.0
    capacity_prices: Values = {}

    @property
    def id(self) -> str:
        """Return the digest of the problem as encoded: two problems with one id are the same."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]


class SliceSolution(Struct, frozen=True, kw_only=True):
    """An optimizer's answer for one slice."""

    slice: SliceId
    allocation: Values
    status: Status
    expected_degradation: Ratio | None = None
    degradation_price: Quantity | None = None
    cost: Quantity | None = None
    reason: Text = ""


class Solution(Message, frozen=True, tag="microopt.solution.v1"):
    """An optimizer's answer to a `Problem`.

    `cost_bound` is a lower bound on the cost of all slices that hold their SLAs, as far as the optimizer knows one
    (paper eq. 7: the dual's value).
    """

    pool: Name
    interval: Interval
    optimizer: Name
    slices: list[SliceSolution]
    version: Text = ""
    capacity_prices: Values = {}
    cost_bound: Quantity | None = None
    solve_s: Quantity = 0.0


class Asked(Message, frozen=True, tag="microopt.asked.v1"):
    """A pool's problem in one interval as the router asked it, published after the allocations were.

    `active` and `others` were asked by the router; `shadows` are to be asked by the auditor with this problem.
    `epoch` is that of the allocations that came of it, if any did.
    """

    problem: Problem
    active: Name
    at: Time
    others: tuple[Name, ...] = ()
    shadows: tuple[Name, ...] = ()
    epoch: Annotated[int, Meta(ge=0)] = 0

    @property
    def message_id(self) -> str:
        """Return the id of this problem: it is kept once, however often it was asked."""
        return message_id("asked", self.problem.pool, self.problem.id, self.epoch)


class SliceCheck(Struct, frozen=True, kw_only=True):
    """What the slice model says of an allocation: E(β), or what keeps it from telling.

    `outside` names the inputs that lie outside of the trained range.
    """

    slice: SliceId
    expected_degradation: Ratio | None = None
    outside: Text = ""
    error: Text = ""


class Check(Message, frozen=True, tag="microopt.check.v1"):
    """Asks what the slice models say of allocations of a problem's slices."""

    problem: Problem
    allocations: dict[SliceId, Values]


class Checked(Message, frozen=True, tag="microopt.checked.v1"):
    """The answer to a `Check`, a part for each allocation that was asked about."""

    slices: list[SliceCheck]


class Held(Message, frozen=True, tag="microopt.held.v1"):
    """Asks every actuator what is in force: resources by slice; without `slices`, of all that it was allocated."""

    slices: dict[SliceId, tuple[Name, ...]] = {}


class Holding(Struct, frozen=True, kw_only=True):
    """What an actuator holds of a slice: the values that were verified or read back last, of its resources alone.

    `epoch` is the highest that it accepted, 0 where it knows of none and only reads what is in force.
    """

    slice: SliceId
    epoch: Annotated[int, Meta(ge=0)]
    values: Values


class Holdings(Message, frozen=True, tag="microopt.holdings.v1"):
    """One actuator's answer to `Held`; a resource whose value it does not know is left out."""

    slices: list[Holding]


class Answer(Message, frozen=True, tag="microopt.answer.v1"):
    """One optimizer's answer to one problem, with what the guard and the slice model say of it.

    Without `solution` there was none: `error` says why. `refused` has a reason for each slice that was refused.
    """

    pool: Name
    interval: Interval
    problem: Text
    optimizer: Name
    role: Literal["active", "canary", "exception", "fallback", "shadow"]
    at: Time
    solution: Solution | None = None
    error: Text = ""
    latency_s: Quantity = 0.0
    refused: dict[SliceId, Text] = {}
    checks: list[SliceCheck] = []

    @property
    def message_id(self) -> str:
        """Return the id of this very answer: a second one to the same problem is another fact."""
        digest = hashlib.sha256(msgspec.json.encode([self.problem, self.role, self.solution, self.error, self.at]))
        return message_id("answer", self.optimizer, self.pool, digest.hexdigest()[:16])


class Event(Message, frozen=True, tag="microopt.event.v1"):
    """What an operator wants to know of: mostly why an answer was not taken as it came.

    `refused` by the guard, `fallback` taken, `reverted` to the active's answer, `held` by a mode or an old
    forecast, `unchecked` by the slice model, `leader` of the pool changed, `canary` judged, `margin` or `model`
    changed.
    """

    pool: Name
    kind: Literal["refused", "fallback", "reverted", "held", "unchecked", "leader", "canary", "margin", "model"]
    at: Time
    slice: SliceId | None = None
    optimizer: Text = ""
    reason: Text = ""
    epoch: Annotated[int, Meta(ge=0)] = 0
    interval: Interval | None = None

    @property
    def message_id(self) -> str:
        """Return the id of this event: what is said twice at one time of one slice is one event."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]
        return message_id("event", self.pool, digest)


class Assurance(Message, frozen=True, tag="microopt.assurance.v1"):
    """What one interval of one slice came to: what was promised, what happened, and what it cost.

    `status` is TS 28.536's word for the SLA in this interval, or UNKNOWN where telemetry does not tell. `realised`
    is the share of the user-time in `known_slots` of `slots` that missed the QoS threshold, and `users_slots` that
    user-time. `asked_threshold` is the degradation threshold that optimizers were asked for. Costs are by the
    pool's weights; `peak_cost` is Peak-alloc's, where the slice has one. `expected_degradation` is the slice
    model's. `fallback` is the allocation's: where there is one, what ruled was not the optimizer's answer.
    """

    slice: SliceId
    pool: Name
    interval: Interval
    epoch: Annotated[int, Meta(ge=1)]
    optimizer: Name
    status: Literal["FULFILLED", "NOT_FULFILLED", "UNKNOWN"]
    degradation_threshold: Ratio
    cost: Quantity
    at: Time
    asked_threshold: Ratio | None = None
    expected_degradation: Ratio | None = None
    realised: Ratio | None = None
    users_slots: Quantity = 0.0
    slots: Annotated[int, Meta(ge=0)] = 0
    known_slots: Annotated[int, Meta(ge=0)] = 0
    peak_cost: Quantity | None = None
    fallback: Literal["", "last", "peak", "force"] = ""

    @property
    def message_id(self) -> str:
        """Return the id of this slice's interval under this epoch."""
        return message_id("assurance", self.slice, unix_ms(self.interval.start), self.epoch)


class Allocation(Message, frozen=True, tag="microopt.allocation.v1"):
    """What a slice shall have, by the pool's one writer; a higher `epoch` always wins.

    `answered` is what the optimizer said, `changes` what the guard made of it and why. `fallback` says that no
    routed optimizer's answer could be used: the `last` good allocation or the `peak` allocation stands in, or a
    mode holds what is in `force`. `problem` is the id of the `Problem` that was asked, `asked_threshold` the
    degradation threshold in it.
    """

    slice: SliceId
    pool: Name
    interval: Interval
    epoch: Annotated[int, Meta(ge=1)]
    values: Values
    valid_until: Time
    optimizer: Name
    status: Status
    expected_degradation: Ratio | None = None
    forecast_made_at: Time | None = None
    reason: Text = ""
    answered: Values = {}
    changes: tuple[Text, ...] = ()
    fallback: Literal["", "last", "peak", "force"] = ""
    problem: Text = ""
    asked_threshold: Ratio | None = None

    @property
    def message_id(self) -> str:
        """Return the id of this epoch of this slice."""
        return message_id("allocation", self.slice, self.epoch)


class Actuation(Message, frozen=True, tag="microopt.actuation.v1"):
    """What became of one resource of an allocation: applied, verified by reading it back, then seen in telemetry.

    `effective` and `ineffective` tell what telemetry says of a verified value; `observed` is then its use.
    """

    slice: SliceId
    resource: Name
    epoch: Annotated[int, Meta(ge=1)]
    state: ActuationState
    requested: Quantity
    observed: Quantity | None
    driver: Name
    at: Time
    duration_s: Quantity = 0.0
    forecast_made_at: Time | None = None
    error: Text = ""

    @property
    def message_id(self) -> str:
        """Return the id of this report: a state is reported once for each time that it is reached."""
        return message_id("actuation", self.slice, self.resource, self.epoch, self.state, unix_ms(self.at))
