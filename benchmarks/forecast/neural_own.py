"""NeuralProphet as its own documentation uses it: values as they are, intervals by its quantile regression."""

import time
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from forecast.peers import filled
from forecast.score import COVERAGES, LEVELS, Floats, Said
from forecast.traces import Trace
from microopt_forecaster.models import neural_prophet

NAME: Final = "neuralprophet-own"
HISTORY: Final = neural_prophet.MAX_INTERVALS
LAGS: Final = neural_prophet.LAGS
QUANTILES: Final = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
REFIT_HOURS: Final = 168
TIMED: Final = 5
SETTINGS: Final = (
    f"NeuralProphet on interval means as they are: {LAGS} lags, seasons of a day and a week, last {HISTORY} "
    f"intervals, learning rate {neural_prophet.LEARNING_RATE:g}, {neural_prophet.EPOCHS} epochs, one for each "
    f"horizon, intervals by its own quantile regression; fitted anew each {REFIT_HOURS} hours"
)


def say(trace: Trace, horizon: int, count: int) -> Said:
    """Return what it says of the last `count` intervals, each `horizon` intervals ahead."""
    values = filled(trace.means, trace.grid.season)
    begin, week = len(values) - count, trace.intervals_in(REFIT_HOURS)
    points, quantiles, fits, updates = [], [], [], []
    for start in range(begin, len(values), week):
        end = min(start + week, len(values))
        with neural_prophet.quietly() as library:
            known = start - horizon + 1  # what is known when the first of them is forecast
            began = time.perf_counter()
            model = _fitted(library, trace, values[max(0, known - HISTORY) : known], known, horizon)
            fits.append(time.perf_counter() - began)
            found = _predicted(model, trace, values, (start, end), horizon)
            for target in range(start, min(start + TIMED, end)):
                began = time.perf_counter()
                _predicted(model, trace, values, (target, target + 1), horizon)
                updates.append(time.perf_counter() - began)
        points.append(found[f"yhat{horizon}"].to_numpy(float))
        quantiles.append(np.column_stack([found[f"yhat{horizon} {_percent(q)}"] for q in QUANTILES]).astype(float))
    point, at = np.concatenate(points), np.concatenate(quantiles)
    return Said(point, _at_levels(point, at), _bands(at), None, median(fits), median(updates), REFIT_HOURS)


def _fitted(library: Any, trace: Trace, past: Floats, end: int, horizon: int) -> Any:
    library.set_random_seed(neural_prophet.SEED)
    model = library.NeuralProphet(
        n_lags=LAGS,
        n_forecasts=horizon,
        quantiles=list(QUANTILES),
        learning_rate=neural_prophet.LEARNING_RATE,
        epochs=neural_prophet.EPOCHS,
        batch_size=neural_prophet.BATCH,
        yearly_seasonality=False,
        weekly_seasonality=True,
        daily_seasonality=True,
        accelerator="cpu",
    )
    model.fit(_frame(trace, past, end - len(past)), freq=_frequency(trace), minimal=True)
    return model


def _predicted(model: Any, trace: Trace, values: Floats, targets: tuple[int, int], horizon: int) -> Any:
    """Return the frame's rows of the targets; each yhat is from what was known `horizon` intervals before."""
    first, end = targets
    begin = first - horizon - LAGS + 1
    shown = values[begin:end].copy()
    shown[len(shown) - horizon :] = np.nan  # not known when the last one is forecast
    found = model.predict(_frame(trace, shown, begin), decompose=False)
    return found.iloc[first - begin : end - begin]


def _frame(trace: Trace, values: Floats, begin: int) -> pd.DataFrame:
    start = pd.Timestamp((trace.first + begin) * trace.grid.interval_s, unit="s")
    return pd.DataFrame({"ds": pd.date_range(start, periods=len(values), freq=_frequency(trace)), "y": values})


def _frequency(trace: Trace) -> str:
    return f"{round(trace.grid.interval_s)}s"


def _percent(quantile: float) -> str:
    return f"{round(100.0 * quantile, 1)}%"


def _at_levels(point: Floats, at: Floats) -> Floats:
    middle = len(QUANTILES) // 2
    levels = [*QUANTILES[:middle], 0.5, *QUANTILES[middle:]]
    rows = np.column_stack([at[:, :middle], point, at[:, middle:]])
    return np.array([np.interp(LEVELS, levels, row) for row in rows])


def _bands(at: Floats) -> Floats:
    """Return the bands of `COVERAGES`: their ends are the outermost quantiles."""
    inwards = {0.95: 0, 0.9: 1, 0.8: 2}
    return np.array([[(row[inwards[c]], row[-1 - inwards[c]]) for c in COVERAGES] for row in at])
