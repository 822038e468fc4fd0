"""What every candidate said of the last intervals, and what came."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from microopt_forecaster.steps import Floats


class Record(NamedTuple):
    """One interval, in logarithms of users + offset."""

    interval: int
    levels: Floats
    """What each candidate expected, NaN where it said nothing."""
    actual: float
    """The interval's mean users."""
    spread: Floats
    """`SLOTS` quantiles of its slots, less `actual`."""


def errors(records: Iterable[Record], candidates: int) -> Floats:
    """Return how many users each candidate was wrong by, shape (records, candidates); NaN: it said nothing."""
    rows = list(records)
    if not rows:
        return np.empty((0, candidates))
    said = np.concatenate([record.levels for record in rows]).reshape(-1, candidates)
    came = np.array([record.actual for record in rows])
    return np.asarray(np.abs(np.exp(came)[:, None] - np.exp(said)), dtype=np.float64)
