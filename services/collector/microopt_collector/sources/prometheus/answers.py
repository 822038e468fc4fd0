"""From Prometheus' answers to measurements: what is stale, of no slice, or no number is said and left out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from microopt_collector.sources import values
from microopt_collector.sources.base import Measurement, Rejected
from microopt_collector.sources.mapping import slice_of
from microopt_collector.sources.prometheus.api import Sample
from microopt_collector.sources.prometheus.plan import Plan, Query
from microopt_collector.sources.prometheus.quantities import Kind

SOMETIMES: Final[frozenset[Kind]] = frozenset({"pressure", "throttled"})
"""What there is only with a quota, or a kernel that tells it: that it is missing is no fault."""
MAX_SHARE: Final = 1.0
SLACK: Final = 1.5
"""Rates are extrapolated: a little more than the whole is the whole."""


class Refusal(Struct, frozen=True):
    """Something in the answer to the query `name` that is no measurement."""

    name: str
    data: bytes
    error: Rejected


class Answered(Struct, frozen=True):
    """A query with its answer and that to how old the samples are; None where that is not asked."""

    query: Query
    samples: Sequence[Sample]
    ages: Sequence[Sample] | None


def check_up(samples: Sequence[Sample], selector: str) -> None:
    """Make sure that all targets are up.

    Raises:
        Rejected: one is not, or there is none.
    """
    if not samples:
        raise Rejected(
            "down", f"no target matches {selector}: is it scraped, and is the parameter or selector right?"
        )
    if down := [sample.metric for sample in samples if sample.value[1] != "1"]:
        names = ", ".join(f"{m.get('job', '')} {m.get('instance', '')}".strip() or "one" for m in down[:5])
        raise Rejected("down", f"{len(down)} of {len(samples)} targets of {selector} are down: {names}")


def combine(
    answered: Sequence[Answered], plan: Plan, *, source: str, time_s: float
) -> tuple[list[Measurement], list[Refusal]]:
    """Return a measurement for each slice of which anything is known, and what was left out."""
    refusals: list[Refusal] = []
    raw: dict[str, dict[tuple[Kind, str], tuple[Query, Sample]]] = {}
    for one in answered:
        for slice_, sample in _by_slice(one, plan, refusals).items():
            raw.setdefault(slice_, {})[one.query.kind, one.query.resource] = (one.query, sample)
    measurements = [_measurement(slice_, found, source, time_s, refusals) for slice_, found in raw.items()]
    return [m for m in measurements if _says_something(m)], refusals


def _by_slice(one: Answered, plan: Plan, refusals: list[Refusal]) -> dict[str, Sample]:
    """Return the fresh samples of a query by slice."""
    query = one.query
    if not one.samples and query.kind not in SOMETIMES:
        text = "the query gives nothing; that is not 0. Does the metric exist, and match the selector?"
        refusals.append(Refusal(query.name, query.promql.encode(), Rejected("empty", text)))
    ages = None if one.ages is None else _ages(one.ages, plan)
    found: dict[str, Sample] = {}
    several: set[str] = set()
    for sample in one.samples:
        try:
            slice_ = _slice(sample.metric, plan)
            _check_age(slice_, ages, plan.max_age_s)
            if slice_ in found:
                several.add(slice_)
                text = f"several series of slice {slice_}: aggregate, such as sum by ({plan.slice_label}) (...)"
                raise Rejected("error", text)
        except Rejected as error:
            refusals.append(Refusal(query.name, msgspec.json.encode(sample), error))
        else:
            found[slice_] = sample
    return {slice_: sample for slice_, sample in found.items() if slice_ not in several}


def _slice(metric: Mapping[str, str], plan: Plan) -> str:
    if plan.slice is not None:
        return plan.slice
    if plan.slice_label not in metric:
        has = ", ".join(sorted(metric)) or "no labels"
        raise Rejected("no_slice", f"the result has no label {plan.slice_label!r} (it has {has}); or set `slice`")
    return slice_of(metric[plan.slice_label], plan.slice_names, f"label {plan.slice_label!r}")


def _ages(samples: Sequence[Sample], plan: Plan) -> dict[str, float]:
    """Return the age of each slice's samples, under "" where it is that of all; the oldest counts."""
    ages: dict[str, float] = {}
    for sample in samples:
        try:
            slice_ = _slice(sample.metric, plan) if plan.slice or sample.metric.get(plan.slice_label) else ""
        except Rejected:
            continue  # said of the sample itself
        ages[slice_] = max(ages.get(slice_, -math.inf), _age_s(sample.value[1]))
    return ages


def _age_s(text: str) -> float:
    """Return the age, endless where it is no number."""
    try:
        age_s = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(age_s) else age_s


def _check_age(slice_: str, ages: Mapping[str, float] | None, max_age_s: float) -> None:
    if ages is None:
        return
    age_s = ages.get(slice_, ages.get(""))
    if age_s is None:
        raise Rejected("stale", f"slice {slice_}: the age of its samples is unknown: the age query gives none")
    if age_s > max_age_s:
        text = f"slice {slice_}: the last sample is {age_s:.3g} s old; max_age_s is {max_age_s:g}"
        raise Rejected("stale", text)


def _measurement(
    slice_: str,
    found: Mapping[tuple[Kind, str], tuple[Query, Sample]],
    source: str,
    time_s: float,
    refusals: list[Refusal],
) -> Measurement:
    known: dict[str, Any] = {"usage": {}, "pressure": {}, "throttled": {}}
    for (kind, resource), (query, sample) in found.items():
        if kind == "qos" and known.get("users") == 0.0:
            continue  # without users the quotient is NaN, and says nothing
        try:
            value = _value(sample, slice_, query)
        except Rejected as error:
            refusals.append(Refusal(query.name, msgspec.json.encode(sample), error))
            continue
        if resource:
            known[kind][resource] = value
        else:
            known[kind] = value
    return Measurement(slice=slice_, time_s=time_s, source=source, **known)


def _value(sample: Sample, slice_: str, query: Query) -> float:
    try:
        value = values.quantity(float(sample.value[1]), query.name, query.scale)
    except ValueError as error:
        text = f"slice {slice_}: {query.name} is {sample.value[1][:80]!r}: expected a number"
        raise Rejected("not_a_number", text) from error
    except Rejected as error:
        raise Rejected(error.reason, f"slice {slice_}: {error}") from error
    if query.kind in SOMETIMES and value > MAX_SHARE:
        if value > SLACK * MAX_SHARE:
            text = f"slice {slice_}: {value:g} is no share of the time; look at scale.{query.name}"
            raise Rejected("implausible", text)
        return MAX_SHARE
    return value


def _says_something(measurement: Measurement) -> bool:
    return (
        measurement.users is not None
        or measurement.qos is not None
        or bool(measurement.usage or measurement.pressure or measurement.throttled)
    )
