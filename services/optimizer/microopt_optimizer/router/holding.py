"""Which slices may not shrink now, or not change at all: modes, and news that are too old (docs/adr/0016)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from microopt.messages import Forecast, Problem, SliceSolution
from microopt.specs import Route, SliceSpec

MODE_REASONS: Final = {"no-shrink": "the route's mode lets it grow only"}


def untouched(route: Route, slices: Mapping[str, Forecast]) -> dict[str, str]:
    """Return the slices whose allocation no answer changes: frozen, or only recommended for."""
    modes = {name: route.mode_of(name) for name in slices}
    return {name: mode for name, mode in modes.items() if mode in ("frozen", "recommend")}


def not_to_shrink(
    route: Route,
    forecasts: Mapping[str, Forecast],
    slices: Mapping[str, SliceSpec],
    now: datetime,
    forecast_age_intervals: float,
    telemetry_age_slots: float,
) -> dict[str, str]:
    """Return the slices that may grow but not shrink, and why."""
    found: dict[str, str] = {}
    for name, forecast in forecasts.items():
        if name not in slices:
            continue  # removed while its round is solved
        if route.mode_of(name) == "no-shrink":
            found[name] = MODE_REASONS["no-shrink"]
        elif why := _too_old(forecast, slices[name], now, forecast_age_intervals, telemetry_age_slots):
            found[name] = why
    return found


def _too_old(forecast: Forecast, spec: SliceSpec, now: datetime, intervals: float, slots: float) -> str:
    age_s = (now - forecast.made_at).total_seconds()
    if age_s > intervals * forecast.interval.duration_s:
        return f"its forecast is {age_s:.0f} s old"
    if forecast.observed_until is not None:
        unseen_s = (forecast.made_at - forecast.observed_until).total_seconds()
        if unseen_s > slots * spec.slot_s:
            return f"its forecast was made without telemetry of the last {unseen_s:.0f} s"
    return ""


@dataclass(frozen=True)
class Raised:
    """An answer as it was, and as it is where its slice must not shrink."""

    before: SliceSolution
    answer: SliceSolution
    change: str


def raised(problem: Problem, accepted: Mapping[str, SliceSolution], held: Mapping[str, str]) -> dict[str, Raised]:
    """Return the answers that would let held slices shrink, with what these have in place of less.

    It is done before the answers are composed, so that whoever wants what a held slice keeps does not get it.
    """
    found: dict[str, Raised] = {}
    for one in problem.slices:
        answer = accepted.get(one.slice)
        if answer is None or one.slice not in held:
            continue
        values = {
            name: max(value, min(one.current.get(name, value), one.bounds[name].ceiling))
            for name, value in answer.allocation.items()
        }
        if values != answer.allocation:
            said = ", ".join(
                f"{name} {value:.4g} instead of {answer.allocation[name]:.4g}"
                for name, value in values.items()
                if value != answer.allocation[name]
            )
            change = f"does not shrink, {held[one.slice]}: {said}"
            found[one.slice] = Raised(answer, replace(answer, allocation=values), change)
    return found
