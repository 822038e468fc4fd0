"""The adaptive margin: what optimizers are asked for, so that reality keeps the SLA (docs/adr/0017)."""

import math
from statistics import NormalDist
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from microopt.messages import Assurance
from microopt.specs import Margin, SliceSpec
from microopt_optimizer.auditor import levels

_Share = Annotated[float, Meta(gt=0.0, le=1.0)]
_Positive = Annotated[float, Meta(gt=0.0, le=10.0)]

_NORMAL: Final = NormalDist()
_FEW_SLOTS: Final = 30.0
"""Slots with users that teach half of what many do."""
_FEW_FACTS: Final = 25.0
"""Fisher information on a probit that teaches half of what much does: one that is known to within 0.2."""
_CLEAR: Final = 2.0
"""Sampling errors beyond which a bad surprise is believed quickly: chance alone must not ratchet the bias up."""
_LARGEST_SURPRISE: Final = 2.5
"""Standard deviations that one interval can be worse or better than promised: beyond, the probit says little."""
_MOST_RELAXED: Final = 0.5
_GROWTH: Final = 5.0
"""The offset works in proportion while it is small, and e times as much at each 5 more."""
_ROUNDING: Final = 1e-6
_LATE: Final = 1
"""Intervals that are already asked for when the result of one is known."""


class MarginSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How margins adapt; rates are per interval with much traffic, deviations are of the slice model's QoS."""

    unfulfilled_at_most: _Share = 0.05
    """α: the share of intervals that may miss the SLA in the long run."""
    step: _Positive = 0.4
    """γ: an interval moves the offset by γ(missed - α)."""
    offset_at_first: _Positive = 1.25
    """θ_1: what sampling noise alone needs for α = 0.05."""
    offset_at_least: Annotated[float, Meta(ge=-10.0, le=0.0)] = 0.0
    offset_at_most: Annotated[float, Meta(gt=0.0, le=100.0)] = 8.0
    """θ_max: from here on the strictest target is asked for."""
    rise: _Share = 0.7
    """The part of a bad surprise that is believed at once."""
    fall: _Share = 0.1
    """The part of a good surprise that is believed at once."""
    turn: _Share = 0.8
    """The part of the bias that becomes a QoS margin in each interval."""
    qos_a_deviation: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.05
    """What QoS margin makes up for one deviation; 0 leaves the QoS margin as it is."""
    levels: bool = True
    """Let the QoS margin differ by the number of users."""
    qos_at_least: Annotated[float, Meta(gt=-1.0, le=0.0)] = -0.2
    qos_at_most: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5
    relax_at_most: Annotated[float, Meta(ge=1.0, le=10.0)] = 1.5
    """How far above the SLA's degradation threshold the target may be, as a multiple."""
    tighten_at_most: Annotated[float, Meta(ge=1.0, le=1e6)] = 50.0
    """How far below the SLA's degradation threshold the target may be, as a divisor."""


DEFAULT: Final = MarginSettings()


def updated(
    former: Margin | None, spec: SliceSpec, assurance: Assurance, settings: MarginSettings = DEFAULT
) -> Margin | None:
    """Return the margin that an interval's outcome leads to, or None where it teaches nothing.

    UNKNOWN intervals and those without users teach nothing, few users little. Without a `former` margin the slice
    begins at its own `qos_margin` and degradation threshold.
    """
    slots = min(assurance.users_slots, float(assurance.known_slots))
    if assurance.status == "UNKNOWN" or assurance.realised is None or slots <= 0.0:
        return None
    if former is None:
        former = Margin(
            slice=spec.slice,
            degradation_threshold=spec.sla.degradation_threshold,
            offset=settings.offset_at_first,
        )
    missed = assurance.status == "NOT_FULFILLED"
    weight = 0.0 if _was_hopeless(assurance) else slots / (slots + _FEW_SLOTS)
    offset = _offset(former.offset, missed, weight, settings)
    bias = _bias(former.bias, assurance.realised, assurance.expected_degradation, slots, settings)
    turned = _turned(replace(former, bias=bias), spec, assurance, slots, settings)
    if offset >= settings.offset_at_most:
        turned = replace(turned, qos_margin=_most(spec, settings), levels=())
    return replace(
        turned,
        degradation_threshold=_target(spec, turned.bias, offset, settings),
        offset=offset,
        judged=former.judged + 1,
        missed=(former.missed * former.judged + missed) / (former.judged + 1),
        at=assurance.at,
    )


def _was_hopeless(assurance: Assurance) -> bool:
    """Return whether the slice model itself did not promise what was asked for: asking for more would not help."""
    asked = assurance.asked_threshold or assurance.degradation_threshold
    expected = assurance.expected_degradation
    return expected is not None and expected > asked * (1.0 + _ROUNDING)


def _offset(former: float, missed: bool, weight: float, settings: MarginSettings) -> float:
    """Return the next θ: online conformal, clipped where the proof of the guarantee allows it."""
    moved = former + settings.step * weight * (missed - settings.unfulfilled_at_most)
    most = settings.offset_at_most + (_LATE + 1) * settings.step
    return min(max(moved, settings.offset_at_least), most)


def _bias(former: float, realised: float, expected: float | None, slots: float, settings: MarginSettings) -> float:
    """Return by how many deviations reality is worse than the slice model says: up quickly, down slowly."""
    if expected is None:
        return former
    real, promised = ((share * slots + 0.5) / (slots + 1.0) for share in (realised, expected))
    surprise = _NORMAL.inv_cdf(real) - _NORMAL.inv_cdf(promised)
    surprise = min(max(surprise, -_LARGEST_SURPRISE), _LARGEST_SURPRISE)
    facts = slots * max(_facts(real), _facts(promised))
    clearly_worse = surprise > former + _CLEAR / math.sqrt(facts)
    rate = settings.rise if clearly_worse else settings.fall
    return former + rate * facts / (facts + _FEW_FACTS) * (surprise - former)


def _facts(share: float) -> float:
    """Return the Fisher information of one slot on the probit of `share`."""
    return _NORMAL.pdf(_NORMAL.inv_cdf(share)) ** 2 / (share * (1.0 - share))


def _turned(
    margin: Margin, spec: SliceSpec, assurance: Assurance, slots: float, settings: MarginSettings
) -> Margin:
    """Return the margin once a part of its bias has become QoS margin, for as many users as the interval had."""
    least, most = settings.qos_at_least, _most(spec, settings)
    overall = min(max(spec.qos_margin if margin.qos_margin is None else margin.qos_margin, least), most)
    margin = replace(margin, qos_margin=overall)
    if settings.qos_a_deviation == 0.0:
        return margin
    users = assurance.users_slots / assurance.known_slots
    here = min(max(margin.qos_margin_at(users) or 0.0, least), most)
    change = min(max(here + settings.qos_a_deviation * settings.turn * margin.bias, least), most) - here
    taught = levels.taught(margin, users, change, slots / (slots + _FEW_SLOTS)) if settings.levels else ()
    return replace(
        margin,
        bias=margin.bias - change / settings.qos_a_deviation,
        qos_margin=min(max(overall + change, least), most),
        levels=tuple(replace(one, qos_margin=min(max(one.qos_margin, least), most)) for one in taught),
    )


def _most(spec: SliceSpec, settings: MarginSettings) -> float:
    return max(settings.qos_at_most, spec.qos_margin)


def _target(spec: SliceSpec, bias: float, offset: float, settings: MarginSettings) -> float:
    """Return the degradation threshold to ask for."""
    threshold = spec.sla.degradation_threshold
    strictest = threshold / settings.tighten_at_most
    if offset >= settings.offset_at_most:
        return strictest
    loosest = max(threshold, min(settings.relax_at_most * threshold, _MOST_RELAXED))
    noise = 1.0 / math.sqrt(_facts(threshold) * spec.interval_s / spec.slot_s)
    shift = bias + noise * offset * math.exp(max(0.0, offset) / _GROWTH)
    return min(max(_NORMAL.cdf(_NORMAL.inv_cdf(threshold) - shift), strictest), loosest)


def guaranteed(weight: float, settings: MarginSettings = DEFAULT, late: int = _LATE) -> float:
    """Return which share of the intervals' weight the missed ones cannot exceed, whatever happens.

    An interval with n slots with users weighs n/(n + 30), `weight` is the sum. Not counted are intervals in which
    the slice model did not promise what was asked for, and those missed while the strictest target was asked
    for. `late` is how many intervals are asked for before the result of one is known, at most 1.
    """
    if weight <= 0.0:
        return 1.0
    reach = settings.offset_at_most + (late + 1) * settings.step - settings.offset_at_first
    return min(1.0, settings.unfulfilled_at_most + reach / (settings.step * weight))
