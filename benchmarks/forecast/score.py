"""How good forecasts were."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forecast.traces import HOUR_S, Trace

Floats = NDArray[np.float64]

LEVELS: Final = np.arange(1, 20) / 20.0
"""Probabilities whose quantiles are judged by the pinball loss."""
COVERAGES: Final = (0.8, 0.9, 0.95)


@dataclass
class Said:
    """What was said of the last intervals of a trace; NaN where nothing was.

    Shapes (n,), (n, 19) at `LEVELS`, (n, 3, 2) for the bands of `COVERAGES`; `slots` is the share of an interval's
    slots that was in the 90 % band of slots. Times are in seconds.
    """

    point: Floats
    quantiles: Floats
    bands: Floats
    slots: Floats | None
    fit_s: float
    update_s: float
    refit_hours: float


def seasonal_error(values: Floats, season: int) -> float:
    """Return the mean absolute difference to the value one season before."""
    return float(np.nanmean(np.abs(values[season:] - values[:-season])))


def mase(actual: Floats, point: Floats, scale: float) -> float:
    """Return the mean absolute error over `scale`, of what is known; infinite where no forecast was made."""
    known = ~np.isnan(actual)
    errors = np.abs(actual - point)[known] / scale
    return float(np.where(np.isnan(errors), np.inf, errors).mean())


def pinball(actual: Floats, quantiles: Floats, levels: Floats = LEVELS) -> float:
    """Return the mean quantile loss, of what is known; `quantiles` has shape (n, levels)."""
    known = ~np.isnan(actual)
    over = actual[known, None] - quantiles[known]
    return float(np.maximum(levels * over, (levels - 1.0) * over).mean())


def coverage(actual: Floats, bands: Floats) -> float:
    """Return the share of known values inside their band, ends included; `bands` has shape (n, 2)."""
    known = ~np.isnan(actual)
    inside = (actual >= bands[:, 0]) & (actual <= bands[:, 1])
    return float(inside[known].mean())


def row(trace: Trace, horizon: int, model: str, said: Said, last_hours: int) -> dict[str, Any]:
    """Return the numbers of one model on one trace."""
    count, last = len(said.point), trace.intervals_in(last_hours)
    actual = trace.means[-count:]
    scale = seasonal_error(trace.means[:-last], trace.grid.season)
    found = {
        "trace": trace.name,
        "kind": trace.kind,
        "interval_s": trace.grid.interval_s,
        "horizon": horizon,
        "model": model,
        "mase_168": mase(actual[-last:], said.point[-last:], scale),
        "mase_336": mase(actual, said.point, scale),
        "pinball": pinball(actual, said.quantiles) / float(np.nanmean(trace.means)),
    }
    for index, claimed in enumerate(COVERAGES):
        found[f"coverage_{round(100 * claimed)}"] = coverage(actual, said.bands[:, index])
    if said.slots is not None:
        found["coverage_90_slots"] = float(np.nanmean(said.slots))
    return {**found, "fit_s": said.fit_s, "update_s": said.update_s, "refit_hours": said.refit_hours}


def hours(trace: Trace, intervals: float) -> float:
    """Return how many hours so many intervals take."""
    return intervals * trace.grid.interval_s / HOUR_S
