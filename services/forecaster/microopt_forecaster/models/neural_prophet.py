"""NeuralProphet, the forecaster of the paper; an extra, as it brings torch and needs numpy before 2."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import numpy as np

from microopt.errors import ConfigError
from microopt_forecaster.models.base import Fitted
from microopt_forecaster.steps import Floats, Ints, Steps

MAX_INTERVALS: Final = 1_008
LAGS: Final = 24
LEAST_INTERVALS: Final = 3 * LAGS
MAX_AHEAD: Final = 48
"""Intervals; each is an output of its own that is trained, and nothing is said of what is further away."""
EPOCHS: Final = 60
BATCH: Final = 64
LEARNING_RATE: Final = 0.1
SEED: Final = 1
REMEDY: Final = 'its library is an extra: pip install "microopt[neuralprophet]"'
DAY_S: Final = 86_400.0
_LOGGERS: Final = ("NP", "py.warnings", "pytorch_lightning")
_ONE_AT_A_TIME: Final = threading.Lock()
"""Seeds, warnings and torch's random numbers are of the whole process, and a fit is to be the same each time."""


@dataclass(frozen=True)
class NeuralProphet:
    """NeuralProphet (Triebe et al. 2021) on the levels of windows of an interval's length.

    Lags, trend, and seasons of a day (or the slice's own) and of a week.
    """

    name: str = "neuralprophet"

    def check(self) -> None:
        """Make sure that the library is installed.

        Raises:
            ConfigError: it is not.
        """
        if find_spec("neuralprophet") is None:
            raise ConfigError(f"forecast model {self.name}: {REMEDY}")

    def fit(self, steps: Steps, gap: int) -> Fitted | None:
        """Return NeuralProphet trained from the same seed each time; nothing is written to disk.

        Raises:
            ConfigError: the library is not installed.
        """
        ahead = 1 + gap // steps.grid.steps
        windows = _Windows(steps, gap)
        last = windows.last
        levels = windows.levels(last - MAX_INTERVALS + 1, last)
        levels = levels[~np.isnan(levels)]
        if len(levels) < LEAST_INTERVALS + ahead or ahead > MAX_AHEAD:
            return None
        if np.ptp(levels) < 1e-9:  # nothing moves: nothing to fit, and nothing to scale by
            return _Constant(float(levels[-1]))
        with quietly() as library:
            library.set_random_seed(SEED)
            model = _model(library, steps, ahead, len(levels))
            # Minimal, and with a learning rate: no metrics, checkpoints or pickled weights of a search for one.
            model.fit(windows.frame(last - len(levels) + 1, levels), freq=windows.frequency, minimal=True)
        return _Trained(gap, ahead, model)


@dataclass(frozen=True)
class _Trained:
    gap: int
    ahead: int
    model: Any  # NeuralProphet has no types

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        found = np.full(len(intervals), np.nan)
        if not len(intervals):
            return found
        windows = _Windows(steps, self.gap)
        wanted = intervals - self.ahead  # the window that is known last when each is forecast
        first = int(wanted.min()) - LAGS + 1
        levels = windows.levels(first, int(wanted.max()))
        unknown = np.isnan(levels)
        sound = np.array([not unknown[w - LAGS + 1 - first : w + 1 - first].any() for w in wanted.tolist()])
        if not sound.any():
            return found
        levels[unknown] = 0.0  # in no window that is sound
        padded = np.concatenate([levels, np.full(self.ahead, np.nan)])
        with quietly():
            said = self.model.predict(windows.frame(first, padded), decompose=False)
        expected = said[f"yhat{self.ahead}"].to_numpy(dtype=np.float64, na_value=np.nan)
        found[sound] = expected[intervals[sound] - first]
        return found


@dataclass(frozen=True)
class _Constant:
    level: float

    def levels(self, steps: Steps, intervals: Ints) -> Floats:
        return np.full(len(intervals), self.level)


class _Windows:
    """Windows of an interval's length; number w ends as long before interval w + `ahead` as is known of it.

    A gap of a part of an interval moves all windows by that part.
    """

    def __init__(self, steps: Steps, gap: int) -> None:
        self._steps = steps
        self._shift = gap % steps.grid.steps

    @property
    def frequency(self) -> str:
        """Return the distance of two windows, as pandas writes it."""
        return f"{self._length_us}us" if self._length_us % 1_000_000 else f"{self._length_us // 1_000_000}s"

    @property
    def last(self) -> int:
        """Return the last window that ends before the steps do."""
        return (self._steps.end + self._shift) // self._steps.grid.steps - 1

    def levels(self, first: int, last: int) -> Floats:
        """Return the levels of windows `first` to `last`."""
        length = self._steps.grid.steps
        return self._steps.windows(np.arange(first, last + 1) * length - self._shift, length)

    def frame(self, first: int, levels: Floats) -> Any:
        """Return the frame that NeuralProphet takes, from window `first` on."""
        import pandas as pd

        start_us = (first * self._steps.grid.steps - self._shift) * self._steps.grid.step_us
        begin = pd.Timestamp(start_us, unit="us")
        return pd.DataFrame({"ds": pd.date_range(begin, periods=len(levels), freq=self.frequency), "y": levels})

    @property
    def _length_us(self) -> int:
        return self._steps.grid.steps * self._steps.grid.step_us


def _model(library: ModuleType, steps: Steps, ahead: int, intervals: int) -> Any:
    """Return NeuralProphet untrained; seasons that are not seen twice are left out."""
    season_s, known_s = steps.grid.season_s, intervals * steps.grid.interval_s
    model = library.NeuralProphet(
        n_lags=LAGS,
        n_forecasts=ahead,
        n_changepoints=0,
        learning_rate=LEARNING_RATE,
        epochs=EPOCHS,
        batch_size=BATCH,
        normalize="standardize",
        yearly_seasonality=False,
        weekly_seasonality=season_s == DAY_S and known_s >= 14.0 * DAY_S,
        daily_seasonality=season_s == DAY_S and known_s >= 2.0 * DAY_S,
        accelerator="cpu",
    )
    if season_s != DAY_S and steps.grid.season > 1 and known_s >= 2.0 * season_s:
        model = model.add_seasonality("season", period=season_s / DAY_S, fourier_order=6)
    return model


@contextmanager
def quietly() -> Iterator[ModuleType]:
    """Import the library, one caller at a time, and keep its log, warnings and handlers to itself."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("NP").setLevel(logging.CRITICAL)  # before it is imported: it says what else it misses
        try:
            import neuralprophet
        except ImportError as error:
            raise ConfigError(f"forecast model neuralprophet: {error}; {REMEDY}") from error
        logging.captureWarnings(False)
        for name in _LOGGERS:
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield neuralprophet
