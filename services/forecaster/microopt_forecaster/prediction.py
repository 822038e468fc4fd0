"""A prediction, and the traffic and bands that are published of it."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from msgspec.structs import replace

from microopt.messages import Band, Traffic
from microopt_forecaster.calibration import COVERAGES, LEVELS, bands
from microopt_forecaster.steps import Floats
from microopt_forecaster.traffic import traffic

ATOMS: Final = 40
"""Equally likely; the outermost stand for an eightieth of the probability each."""

Realised = tuple[Floats, int]


@dataclass(frozen=True)
class Prediction:
    """Users at the probabilities `calibration.LEVELS`: in a slot, and in the mean of the interval.

    `realised` says for both for which share of the last intervals each band of `COVERAGES` held, and of how many.
    """

    model: str
    slot: Floats
    mean: Floats
    realised: tuple[Realised, Realised]

    @property
    def median(self) -> float:
        """Return the median of the interval's mean users."""
        return float(self.mean[len(self.mean) // 2])

    def traffic(self) -> Traffic:
        """Return the distribution of a slot's users as atoms."""
        probabilities = (np.arange(ATOMS) + 0.5) / ATOMS
        return traffic(np.interp(probabilities, LEVELS, self.slot))

    def bands(self) -> tuple[Band, ...]:
        """Return the claimed bands, of a slot and of the interval's mean."""
        return tuple(_bands("slot", self.slot, self.realised[0])) + tuple(
            _bands("interval", self.mean, self.realised[1])
        )

    def is_exceeded(self, users: float) -> bool:
        """Return whether a mean of `users` is above the widest band of the interval's mean."""
        return users > bands(self.mean)[-1][1]


def raised(traffic: Traffic, users: float) -> Traffic:
    """Return `traffic` scaled so that its mean is at least `users`; what expects nobody expects `users`."""
    if traffic.mean >= users:
        return traffic
    if traffic.mean <= 0.0:
        return Traffic((users,), (1.0,))
    return replace(traffic, users=tuple(u * users / traffic.mean for u in traffic.users))


def _bands(of: Literal["slot", "interval"], quantiles: Floats, realised: Realised) -> list[Band]:
    shares, judged = realised
    return [
        Band(
            of=of,
            coverage=coverage,
            lower=lower,
            upper=upper,
            realised=float(share) if judged else None,
            judged=judged,
        )
        for coverage, (lower, upper), share in zip(COVERAGES, bands(quantiles), shares, strict=True)
    ]
