"""An explanation as lines that are read in ten seconds."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from microopt_optimizer.report.explained import Explanation, Given, Load, Scarce, Wanted
from microopt_optimizer.report.words import clock, moment, number, percent, signed

_WIDTH: Final = 13
_FALLBACKS: Final = {
    "last": "no routed optimizer's answer could be used: the last good allocation stands in",
    "peak": "no routed optimizer's answer could be used: Peak-alloc stands in",
    "force": "its mode holds what is in force",
}
_STOOD_IN: Final = {
    "last": "the last good allocation, which stood in",
    "peak": "Peak-alloc, which stood in",
    "force": "what a mode held",
}


def explain_lines(one: Explanation) -> Iterator[str]:
    """Yield an explanation's lines."""
    yield (
        f"slice {one.slice}, pool {one.pool}: {moment(one.start)} to {clock(one.end, one.start)} UTC, "
        f"epoch {one.epoch} {'routed to' if one.fallback else 'by'} {one.optimizer}: {one.status}, "
        f"cost {number(one.cost)}"
    )
    for name, lines in (
        ("expected", _load(one.load, one.start)),
        ("asked", _wanted(one.wanted)),
        ("gets", (_given(given) for given in one.given)),
        ("because", _because(one)),
        ("guard", _guard(one)),
        ("reality", _reality(one)),
        ("events", _events(one)),
        ("would change", _change(one)),
        ("not known", iter(one.unknown)),
    ):
        label = name
        for line in lines:
            yield f"  {label:<{_WIDTH}}{line}"
            label = ""


def _load(load: Load | None, near: datetime) -> Iterator[str]:
    if load is None:
        return
    raised = (
        f", raised from {number(load.raised_from, 3)} by what is observed" if load.raised_from is not None else ""
    )
    yield (
        f"{number(load.mean, 3)} users a slot, 95 % of slots at most {number(load.upper, 3)}; "
        f"forecast at {clock(load.made_at, near)} by {load.model}{raised}"
    )


def _wanted(wanted: Wanted) -> Iterator[str]:
    side = "below" if wanted.higher_is_better else "above"
    yield (
        f"SLA: at most {percent(wanted.degradation_threshold)} of user-time {side} "
        f"{number(wanted.qos_threshold)} {wanted.qos_unit}"
    )
    if wanted.asked_threshold is None:
        return
    qos = wanted.asked_qos_threshold
    level = f" {side} {number(qos)} {wanted.qos_unit}" if qos is not None else ""
    learned = f", by {wanted.judged} judged intervals, {percent(wanted.missed)} missed" if wanted.judged else ""
    yield f"with margins: at most {percent(wanted.asked_threshold)}{level}{learned}"


def _given(given: Given) -> str:
    answered = ""
    if given.answered is not None and given.answered != given.value:
        answered = f", answered {number(given.answered)}"
    at = f", at its {given.bound}" if given.bound else ""
    return f"{given.resource} {number(given.value)} {given.unit}{answered}{at}; {_actuated(given)}"


def _actuated(given: Given) -> str:
    if not given.state:
        return "no actuator has reported"
    seen = "in use" if given.state in ("effective", "ineffective") else "read back"
    observed = f", {number(given.observed)} {seen}" if given.observed is not None else ""
    behind = " (of an earlier epoch)" if given.behind else ""
    error = f": {given.error}" if given.error else ""
    return f"{given.state} by {given.driver}{observed}{behind}{error}"


def _because(one: Explanation) -> Iterator[str]:
    if one.fallback:
        yield _FALLBACKS.get(one.fallback, one.fallback)
    yield _expectation(one)
    for given in one.given:
        if given.bound:
            yield f"{given.resource} is at its {given.bound}"
    yield from (_scarce(scarce, one.slice) for scarce in one.scarce)
    if one.reason:
        yield f"{'the router' if one.fallback else one.optimizer} says: {one.reason}"


def _expectation(one: Explanation) -> str:
    """Return who expects what: of a stand-in only the slice model tells, and what is held was allocated before."""
    if one.expected is None:
        return "nobody says what degradation is to be expected"
    degradation = f"{percent(one.expected)} degradation"
    if one.fallback == "force":
        return f"{degradation} was expected when it was allocated, for an earlier interval"
    who = "the slice model" if one.checked or one.fallback else one.optimizer
    if one.threshold_binds:
        return f"the threshold binds: {who} expects {degradation}"
    unbound = ": the threshold does not bind" if one.threshold_binds is False else ""
    return f"{who} expects {degradation}{unbound}"


def _scarce(scarce: Scarce, slice_: str) -> str:
    worth = f", worth {number(scarce.price)} per {scarce.unit}" if scarce.price else ": not all SLAs can be held"
    text = f"{scarce.resource} is scarce{worth}"
    if scarce.most is None:
        return text
    held = f"{number(scarce.most.value)} of {number(scarce.capacity)}"
    who = "this slice" if scarce.most.slice == slice_ else f"slice {scarce.most.slice}"
    return f"{text}; {who} is why: it holds most, {held}"


def _guard(one: Explanation) -> Iterator[str]:
    if one.refused:
        yield f"refused the answer: {one.refused}"
    yield from one.changes
    if one.changes and one.answered_cost not in (None, one.cost):
        yield f"cost {number(one.answered_cost)} → {number(one.cost)} by this"
    if one.mode != "apply":
        yield f"mode now: {one.mode}"


def _reality(one: Explanation) -> Iterator[str]:
    for found in one.assurances:
        realised = "unknown" if found.realised is None else percent(found.realised)
        expected = (
            "" if found.expected_degradation is None else f", expected {percent(found.expected_degradation)}"
        )
        who = _STOOD_IN.get(found.fallback, found.optimizer)
        yield f"{clock(found.interval.start, one.start)} realised {realised}{expected}: {found.status}, by {who}"


def _events(one: Explanation) -> Iterator[str]:
    for event in one.events:
        who = f" {event.optimizer}" if event.optimizer else ""
        yield f"{clock(event.at, one.start)} {event.kind}{who}: {event.reason}"


def _change(one: Explanation) -> Iterator[str]:
    if one.cost_a_point:
        share = f" ({signed(100.0 * one.cost_a_point / one.cost)} %)" if one.cost > 0.0 else ""
        yield f"one percent point less degradation costs about {number(one.cost_a_point, 3)}{share}"
    for scarce in one.scarce:
        if scarce.price:
            yield f"one {scarce.unit} more {scarce.resource} in the pool saves {number(scarce.price, 3)}"
    for given in one.given:
        if given.bound == "ceiling" and one.status == "infeasible":
            yield f"a higher ceiling of {given.resource}, or a looser SLA: it cannot be held within its bounds"
        elif given.bound == "floor":
            yield f"a lower floor of {given.resource}, if less does as well"
    yield f"try it: microopt whatif {one.slice} --degradation-threshold … --qos-threshold … --users …"
