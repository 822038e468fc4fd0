"""Which candidate forecasts: the one that did best lately, by a margin."""

from typing import Final

import numpy as np

from microopt_forecaster.steps import Floats

LEAST_JUDGED: Final = 12
"""Intervals on which both were heard, before one replaces the other."""
MARGIN: Final = 0.97
"""Of two that do as well the one that is in use stays."""


def choose(errors: Floats, current: int) -> int:
    """Return the best column of `errors`, shape (intervals, candidates), NaN where there is none.

    Two are compared on the intervals on which both said something, by their mean error.
    """
    best, least = current, MARGIN
    for candidate in range(errors.shape[1]):
        both = ~np.isnan(errors[:, [candidate, current]]).any(axis=1)
        if candidate == current or both.sum() < LEAST_JUDGED:
            continue
        ratio = errors[both, candidate].mean() / max(float(errors[both, current].mean()), 1e-9)
        if ratio < least:
            best, least = candidate, float(ratio)
    return best
