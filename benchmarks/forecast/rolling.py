"""Our own models, as the forecaster runs them: a cold start, then interval by interval."""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from forecast.score import COVERAGES, LEVELS, Said, hours
from forecast.traces import Trace
from microopt_forecaster import calibration, models
from microopt_forecaster.candidates import MAX_BETWEEN_FITS, Candidates
from microopt_forecaster.day_types import DayTypes
from microopt_forecaster.followed import EXTRA_INTERVALS, candidate_names
from microopt_forecaster.history import History
from microopt_forecaster.models.base import Fitted, Model
from microopt_forecaster.outlook import Outlook
from microopt_forecaster.prediction import Prediction
from microopt_forecaster.settings import ForecasterSettings
from microopt_forecaster.steps import Steps

SETTINGS = ForecasterSettings()


@dataclass
class Timed:
    """A model that notes how long its fits take, and with `every` (steps) is fitted that seldom."""

    model: Model
    every: int = 0
    seconds: list[float] = field(default_factory=list)
    fits: dict[tuple[int, int], Fitted | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.model.name

    def fit(self, steps: Steps, gap: int) -> Fitted | None:
        """Return the model fitted, or the fit of the same week."""
        key = ((steps.end // self.every) if self.every else steps.end, gap)
        if self.fits.get(key) is None:  # there may be history enough later in the week
            began = time.perf_counter()
            self.fits[key] = self.model.fit(steps, gap)
            self.seconds.append(time.perf_counter() - began)
        return self.fits[key]


def say(
    trace: Trace, model: str, horizon: int, count: int, *, days: DayTypes | None = None, refit_hours: int = 0
) -> Said:
    """Return what `model` (or `auto`) says of the last `count` intervals, each `horizon` intervals ahead."""
    names, fixed = candidate_names(model, SETTINGS.models)
    grid = trace.grid
    every = round(refit_hours * 3.6e9) // grid.step_us
    timed = [Timed(one, every if one.name == model else 0) for one in models.make(names, days)]
    candidates = Candidates(timed, grid, (horizon - 1) * grid.steps, shift=zlib.crc32(trace.name.encode()))
    outlook = Outlook(candidates, grid.season, fixed)
    history = History(grid, SETTINGS.horizon_seasons * grid.season_s + EXTRA_INTERVALS * grid.interval_s)
    end = trace.first + len(trace.means)
    heard, predictions, seconds = trace.first, [], []
    for target in range(end - count, end):
        for interval in range(heard, target - horizon + 1):
            _hear(history, trace, interval)
        heard = target - horizon + 1
        began = time.perf_counter()
        steps = history.steps()
        outlook.catch_up(steps, history.slots, heard - 1)
        predictions.append(outlook.predict(steps, target))
        seconds.append(time.perf_counter() - began)
    fit_s = sum(median(one.seconds) for one in timed if one.seconds and (fixed is None or one.name == model))
    return _said(
        trace, predictions, fit_s, median(seconds), refit_hours or hours(trace, min(grid.season, MAX_BETWEEN_FITS))
    )


def _hear(history: History, trace: Trace, interval: int) -> None:
    for time_s, users in trace.slots_of(interval):
        history.add(time_s, users)


def _said(trace: Trace, predictions: Sequence[Prediction | None], *times: float) -> Said:
    count = len(predictions)
    point, quantiles = np.full(count, np.nan), np.full((count, len(LEVELS)), np.nan)
    bands, slots = np.full((count, len(COVERAGES), 2), np.nan), np.full(count, np.nan)
    actual = trace.users.reshape(-1, trace.slots)[-count:]
    for n, one in enumerate(predictions):
        if one is None:
            continue
        point[n] = one.median
        quantiles[n] = np.interp(LEVELS, calibration.LEVELS, one.mean)
        bands[n] = calibration.bands(one.mean)
        low, high = calibration.bands(one.slot)[1]
        slots[n] = np.mean((actual[n] >= low) & (actual[n] <= high)) if not np.isnan(actual[n]).any() else np.nan
    return Said(point, quantiles, bands, slots if trace.slots > 1 else None, *times)


def models_for(trace: Trace) -> list[str]:
    """Return the models that are measured here, the choice among them last."""
    # Waves say nothing where intervals have several steps.
    without = {"neuralprophet"} | ({"ridge-waves"} if trace.grid.steps > 1 else set())
    return [*(name for name in models.MODELS if name not in without), "auto"]


def local_days(trace: Trace) -> DayTypes | None:
    """Return day types with the holidays of where the trace is from, if that is known."""
    return None if trace.place is None else DayTypes(*trace.place)


def describe() -> dict[str, Any]:
    """Return what the default is."""
    return {"models": list(SETTINGS.models), "horizon_seasons": SETTINGS.horizon_seasons}
