"""Pools of slices that share a scarce bandwidth, and the forecasts of their rounds."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import numpy as np

from microopt.messages import Forecast, Interval, Traffic
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Route, Sla, SliceSpec
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH
from route.system import MODEL

ACTIVE = "microopt"
INTERVAL_S = 3600.0
LEAD = timedelta(seconds=60.0)
SPREAD = 0.2
MEAN_USERS = (1.5, 3.0)
MOST_USERS = 5.0
CHANGE = 0.02
"""By how much the users of a slice differ from round to round."""
_WEIGHTS = {GNB_CPU: 1 / 4500, TRANSPORT_BANDWIDTH: 1 / 50}
_UNITS = {GNB_CPU: "millicores", TRANSPORT_BANDWIDTH: "Mbit/s"}
_BOUNDS = {GNB_CPU: Bounds(500.0, 4500.0), TRANSPORT_BANDWIDTH: Bounds(5.0, 50.0)}
_SLAS = (
    Sla(qos_threshold=4.0, degradation_threshold=0.1),
    Sla(qos_threshold=3.0, degradation_threshold=0.2),
)
_serials = itertools.count(1)


@dataclass
class Pool:
    """One pool; the same `seed` gives the same slices and the same traffic."""

    name: str
    size: int
    shadows: tuple[str, ...] = ()
    atoms: int = 8
    seed: int = 0
    bandwidth: float = math.nan
    slices: list[SliceSpec] = field(init=False)

    def __post_init__(self) -> None:
        self.slices = [self._slice(place) for place in range(self.size)]
        if math.isnan(self.bandwidth):
            self.bandwidth = self.size * _BOUNDS[TRANSPORT_BANDWIDTH].ceiling
        self._random = np.random.default_rng(self.seed)
        self._start = datetime.now(UTC)
        self._means = self._random.uniform(*MEAN_USERS, self.size)

    def spec(self) -> PoolSpec:
        """Return its specification; only bandwidth can be scarce."""
        capacities = {GNB_CPU: self.size * _BOUNDS[GNB_CPU].ceiling, TRANSPORT_BANDWIDTH: self.bandwidth}
        resources = {
            name: ResourceSpec(unit=_UNITS[name], weight=_WEIGHTS[name], capacity=capacity)
            for name, capacity in capacities.items()
        }
        return PoolSpec(pool=self.name, resources=resources)

    def route(self) -> Route:
        """Return its route."""
        return Route(pool=self.name, active=ACTIVE, shadows=self.shadows)

    def forecasts(self) -> list[Forecast]:
        """Return the forecasts of one more round, whose interval begins a moment after the former's."""
        now = datetime.now(UTC)
        self._start = max(self._start + timedelta(milliseconds=1), now + LEAD)
        interval = Interval(self._start, INTERVAL_S)
        means = self._means * self._random.uniform(1.0 - CHANGE, 1.0 + CHANGE, self.size)
        return [
            Forecast(
                slice=one.slice, interval=interval, traffic=_traffic(mean, self.atoms), model="bench", made_at=now
            )
            for one, mean in zip(self.slices, means, strict=True)
        ]

    def _slice(self, place: int) -> SliceSpec:
        return SliceSpec(
            slice=f"1-{next(_serials):06x}",
            pool=self.name,
            sla=_SLAS[place % len(_SLAS)],
            bounds=_BOUNDS,
            model=MODEL,
            interval_s=INTERVAL_S,
        )


def bandwidth(values: Sequence[dict[str, float]]) -> float:
    """Return the bandwidth that allocations take together."""
    return math.fsum(one[TRANSPORT_BANDWIDTH] for one in values)


def _traffic(mean: float, atoms: int) -> Traffic:
    quantiles = (NormalDist().inv_cdf((n + 0.5) / atoms) for n in range(atoms))
    users = tuple(min(MOST_USERS, float(mean) * math.exp(SPREAD * quantile)) for quantile in quantiles)
    return Traffic(users, (1.0 / atoms,) * atoms)
