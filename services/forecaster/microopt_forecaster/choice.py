"""How far each candidate is believed: by how well it did lately."""

from typing import Final

import numpy as np

from microopt_forecaster.steps import Floats

LEAST_JUDGED: Final = 12
"""Intervals on which a candidate was heard, before it counts beside others."""
HALF_LIFE: Final = 84.0
"""Intervals, in which an error loses half of its weight."""
SHARPNESS: Final = 8
"""A candidate that errs a tenth less counts twice as much."""
_TINY: Final = 1e-9


def trust(errors: Floats) -> Floats:
    """Return a weight for each column of `errors`, shape (intervals, candidates), oldest first; they sum to 1.

    Weights are mean errors to the power of −`SHARPNESS`. NaN is an interval on which a candidate said nothing; all
    are compared on those on which all did that have been heard long enough.
    """
    candidates = errors.shape[1]
    known = ~np.isnan(errors)
    heard = known.sum(axis=0) >= LEAST_JUDGED
    if not heard.any():
        return _only(0, candidates)
    together = known[:, heard].all(axis=1)
    if together.sum() < LEAST_JUDGED:  # they were never heard together: the one that was heard most
        return _only(int(known.sum(axis=0).argmax()), candidates)
    judged = errors[together][:, heard]
    ages = np.arange(len(judged))[::-1]
    mean = np.average(judged, axis=0, weights=0.5 ** (ages / HALF_LIFE)) + _TINY
    found = np.zeros(candidates)
    found[heard] = (mean.min() / mean) ** SHARPNESS
    return np.asarray(found / found.sum(), dtype=np.float64)


def _only(candidate: int, candidates: int) -> Floats:
    return np.asarray(np.eye(candidates)[candidate], dtype=np.float64)
