"""Samples as the weighted atoms of a `Traffic`."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from microopt.messages import Traffic

MAX_ATOMS: Final = 256
MAX_USERS: Final = 1e12  # what a Traffic can hold


def traffic(samples: NDArray[np.float64], max_atoms: int = MAX_ATOMS) -> Traffic:
    """Return the distribution of equally likely `samples`, shape (n,), n ≥ 1; below 0 users there are 0.

    Equal values are one atom. Of more than `max_atoms` different ones, those in the same `1/max_atoms` of the
    probability become one at their weighted mean, which keeps the expectation.
    """
    users, counts = np.unique(np.clip(samples, 0.0, MAX_USERS), return_counts=True)
    weights = counts / counts.sum()
    if users.size > max_atoms:
        middle = np.cumsum(weights) - weights / 2
        bins = np.minimum((middle * max_atoms).astype(np.intp), max_atoms - 1)
        merged = np.bincount(bins, weights, minlength=max_atoms)
        sums = np.bincount(bins, weights * users, minlength=max_atoms)
        users, weights = sums[merged > 0] / merged[merged > 0], merged[merged > 0]
    return Traffic(tuple(users.tolist()), tuple((weights / weights.sum()).tolist()))
