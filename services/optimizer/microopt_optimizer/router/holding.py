"""Which slices may not shrink now, or not change at all: modes, and news that are too old (docs/adr/0016)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from microopt.messages import Forecast
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
