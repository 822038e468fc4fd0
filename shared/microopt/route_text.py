"""A route, and the difference between two, in words."""

from datetime import UTC

from microopt.specs import Canary, Criteria, Route


def summary(route: Route) -> list[str]:
    """Return the lines that tell all of a route: the first is about the pool, others are there where needed."""
    shadows = ", ".join(route.shadows) or "-"
    lines = [
        f"{route.pool}: active {route.active}; shadows {shadows}; changed {when_and_who(route)}; {why(route)}"
    ]
    if route.fallbacks:
        lines.append(f"  fallbacks   {', '.join(route.fallbacks)}")
    lines += [f"  exception   slice {slice_}: {name}" for slice_, name in sorted(route.exceptions.items())]
    if route.canary:
        since = f", since {route.canary.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if route.canary.since else ""
        lines.append(f"  canary      {canary(route.canary)}{since}")
        lines.append(f"              promoted if {criteria(route.canary.criteria)}")
    if route.mode != "apply":
        lines.append(f"  mode        {route.mode}")
    lines += [f"  mode        slice {slice_}: {mode}" for slice_, mode in sorted(route.modes.items())]
    return lines


def when_and_who(route: Route) -> str:
    """Return when the route was changed, and by whom."""
    if route.changed_at is None:
        return "-"
    return f"{route.changed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC by {route.changed_by or 'unknown'}"


def why(route: Route) -> str:
    """Return the reason of the last change."""
    return route.reason or "-"


def canary(one: Canary) -> str:
    """Return who is on probation, for which slices and for how long."""
    slices = f"slices {', '.join(one.slices)}" if one.slices else f"{100 * one.share:.4g} % of the slices"
    return f"{one.optimizer} for {slices}, {one.intervals} intervals"


def criteria(one: Criteria) -> str:
    """Return what a canary must keep."""
    return (
        f"cost ≤ {one.cost_ratio:g} × the active's, intervals unfulfilled ≤ {100 * one.unfulfilled:.4g} %, "
        f"answers failed ≤ {100 * one.failures:.4g} %, 95 % of answers within {one.latency_s:g} s"
    )


def changes(before: Route | None, after: Route) -> list[str]:
    """Return what a change was, a text for each thing that it changed; empty where it changed nothing."""
    if before is None:
        start = Route(pool=after.pool, active=after.active)
        return [f"new: active {after.active}", *changes(start, after)]
    found = []
    if before.active != after.active:
        found.append(f"active {before.active} → {after.active}")
    found += [f"shadow + {name}" for name in after.shadows if name not in before.shadows]
    found += [f"shadow − {name}" for name in before.shadows if name not in after.shadows]
    if before.fallbacks != after.fallbacks:
        found.append(f"fallbacks {', '.join(before.fallbacks) or '-'} → {', '.join(after.fallbacks) or '-'}")
    found += _each_slice("", dict(before.exceptions), dict(after.exceptions))
    if before.canary != after.canary:
        found += _canary_changes(before.canary, after.canary)
    if before.mode != after.mode:
        found.append(f"mode {before.mode} → {after.mode}")
    found += _each_slice("mode ", dict(before.modes), dict(after.modes))
    if not found and before.shadows != after.shadows:
        found.append(f"shadows in the order {', '.join(after.shadows)}")
    return found


def _canary_changes(before: Canary | None, after: Canary | None) -> list[str]:
    found = []
    if before and (after is None or after.optimizer != before.optimizer):
        found.append(f"canary {before.optimizer} ended")
    if after:
        found.append(f"canary {canary(after)}")
    if after and after.criteria != (before.criteria if before else Criteria()):
        found.append(f"criteria {criteria(after.criteria)}")
    return found


def _each_slice(what: str, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what changed for single slices; `-` is none of its own."""
    return [
        f"slice {slice_}: {what}{before.get(slice_, '-')} → {after.get(slice_, '-')}"
        for slice_ in sorted({*before, *after})
        if before.get(slice_) != after.get(slice_)
    ]
