"""Forecasters of statsforecast with their own intervals, as a user without our machinery would have them."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final

import numpy as np
from statsforecast.models import MSTL, AutoETS, AutoTheta

from forecast.score import COVERAGES, LEVELS, Floats, Said
from forecast.traces import Trace

HISTORY: Final = 1_008
"""Intervals that a peer sees: six weeks of hours, or one of ten minutes."""
REFIT_HOURS: Final = 168
BANDS: Final = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95]
"""Central bands in per cent; their ends are the quantiles of `LEVELS`."""

PEERS: Final[dict[str, Callable[[Trace], Any]]] = {
    "auto-ets": lambda trace: AutoETS(season_length=trace.grid.season),
    "auto-theta": lambda trace: AutoTheta(season_length=trace.grid.season),
    "mstl": lambda trace: MSTL(season_length=_seasons(trace)),
}
SETTINGS: Final = {
    "auto-ets": "statsforecast AutoETS, season of a day (it takes none of more than 24 intervals, so that "
    "ten-minute intervals have none), form by AICc",
    "auto-theta": "statsforecast AutoTheta, season of a day",
    "mstl": "statsforecast MSTL with its default AutoETS(ZZN) for the trend; seasons of a day and a week, of "
    "ten-minute intervals of a day alone, since with a week a forecast takes two seconds",
    "all": f"last {HISTORY} interval means; fitted anew each {REFIT_HOURS} hours and run forward over the newest "
    "values each interval; gaps are filled by the day before; the point forecast is the mean",
}


def say(trace: Trace, peer: str, horizons: Sequence[int], count: int) -> dict[int, Said]:
    """Return what `peer` says of the last `count` intervals at each of `horizons`."""
    values = filled(trace.means, trace.grid.season)
    most, end = max(horizons), len(values)
    every = trace.intervals_in(REFIT_HOURS)
    saids = {horizon: _nothing(count) for horizon in horizons}
    fits, updates = [], []
    model = None
    for number, origin in enumerate(range(end - count - most + 1, end)):
        past = values[max(0, origin - HISTORY) : origin]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if model is None or number % every == 0:
                model = PEERS[peer](trace)
                fits.append(_seconds(lambda model=model, past=past: model.fit(past)))
            began = time.perf_counter()
            found = model.forward(past, h=most, level=BANDS)
            updates.append(time.perf_counter() - began)
        for horizon, said in saids.items():
            place = origin + horizon - 1 - (end - count)
            if 0 <= place < count:
                _note(said, place, found, horizon - 1)
    for said in saids.values():
        said.fit_s, said.update_s = median(fits), median(updates)
    return saids


def filled(values: Floats, season: int) -> Floats:
    """Return `values` with gaps filled by the value one season before, else by the last one."""
    found = values.copy()
    for place in np.flatnonzero(np.isnan(found)).tolist():
        before = found[place - season] if place >= season else np.nan
        found[place] = before if not np.isnan(before) else found[place - 1]
    return found


def _seasons(trace: Trace) -> list[int]:
    season = trace.grid.season
    return [season, 7 * season] if season <= 24 else [season]


def _nothing(count: int) -> Said:
    return Said(
        point=np.full(count, np.nan),
        quantiles=np.full((count, len(LEVELS)), np.nan),
        bands=np.full((count, len(COVERAGES), 2), np.nan),
        slots=None,
        fit_s=0.0,
        update_s=0.0,
        refit_hours=REFIT_HOURS,
    )


def _note(said: Said, place: int, found: Mapping[str, Floats], step: int) -> None:
    point = float(found["mean"][step])
    at = {0.5: point}
    for band in BANDS:
        at[0.5 - band / 200.0] = float(found[f"lo-{band}"][step])
        at[0.5 + band / 200.0] = float(found[f"hi-{band}"][step])
    levels = sorted(at)
    said.point[place] = point
    said.quantiles[place] = np.interp(LEVELS, levels, [at[level] for level in levels])
    said.bands[place] = [(at[0.5 - 0.5 * one], at[0.5 + 0.5 * one]) for one in map(_exact, COVERAGES)]


def _exact(coverage: float) -> float:
    """Return the coverage as the bands' per cents are divided, bit for bit."""
    return round(100.0 * coverage) / 100.0


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
