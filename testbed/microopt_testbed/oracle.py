"""The cheapest allocation for one who knows the traffic and the truth: the floor under every cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microopt.errors import ConfigError
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH, Floats, QosSurface

RESOURCES = (GNB_CPU, TRANSPORT_BANDWIDTH)

_BISECTIONS = 10

Range = tuple[float, float]
_T = TypeVar("_T")


@dataclass(frozen=True)
class CheapestAllocation:
    """What is enough: values by resource, their weighted cost, and the degradation to expect with them."""

    allocation: dict[str, float]
    cost: float
    expected_degradation: float


@dataclass(frozen=True, eq=False)
class _Question:
    """One interval's constraint: users that occur (U,), their share of all user-slots (U,), and thresholds."""

    surface: QosSurface
    users: Floats
    shares: Floats
    qos_threshold: float
    degradation_threshold: float

    def degradation(self, points: Floats) -> Floats:
        """Return equation (1) in expectation (n,) at points (2, n) of CPU and bandwidth."""
        each = self.surface.degradation(self.qos_threshold, self.users[:, None], points[0], points[1])
        return np.asarray(self.shares @ each, float)


def cheapest_allocation(
    surface: QosSurface,
    users_in_interval: ArrayLike,
    qos_threshold: float,
    degradation_threshold: float,
    weights: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
    steps: int = 141,
) -> CheapestAllocation | None:
    """Return the cheapest allocation that meets the SLA on the truth (paper, equation 2), or None if none does.

    `users_in_interval` (slots,) weighs each slot by its users (equation 1), so that slots without users do not
    count; an interval without any gets the floors. `weights` are per millicore and per Mbit/s. The bounds are
    searched on `steps` values each and the surface's own knots, then between them by bisection: more resources
    never degrade, therefore the feasible side of each line of the grid is known.

    Raises:
        ConfigError: `weights` or `bounds` do not name exactly gnb_cpu and transport_bandwidth.
        ValueError: a number of users is negative or not finite.
    """
    eta = np.array([_of("weights", weights, name) for name in RESOURCES])
    cpu, bandwidth = ((float(low), float(high)) for low, high in (_of("bounds", bounds, n) for n in RESOURCES))
    users, shares = _user_shares(users_in_interval)
    if users.size == 0:
        return _answer(np.array([cpu[0], bandwidth[0]]), eta, 0.0)
    question = _Question(surface, users, shares, qos_threshold, degradation_threshold)
    tables = [_table(surface, float(u), qos_threshold, cpu, bandwidth, steps) for u in users]
    feasible = np.tensordot(shares, np.stack(tables), axes=1) <= degradation_threshold
    if not feasible[-1, -1]:
        return None
    best = _cheapest_point(question, feasible, _grid_axes(surface, cpu, bandwidth, steps), eta)
    return _answer(best, eta, float(question.degradation(best[:, None])[0]))


def _user_shares(users_in_interval: ArrayLike) -> tuple[Floats, Floats]:
    """Return the numbers of users that occur (U,), without 0, and the share of all users that each makes up."""
    all_users = np.asarray(users_in_interval, float)
    if not np.all(np.isfinite(all_users)) or np.any(all_users < 0.0):
        raise ValueError("users_in_interval: every slot must be finite and at least 0")
    users, counts = np.unique(all_users[all_users > 0.0], return_counts=True)
    return users, users * counts / np.sum(users * counts)


def _cheapest_point(
    question: _Question, feasible: NDArray[np.bool_], axes: tuple[Floats, Floats], eta: Floats
) -> Floats:
    """Return the cheapest feasible point (2,) of the grid or of the lines through it."""
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"))
    cost = np.tensordot(eta, mesh, axes=1)
    row, column = np.unravel_index(np.argmin(np.where(feasible, cost, np.inf)), cost.shape)
    best = mesh[:, row, column]
    for axis in range(2):
        along = np.moveaxis(feasible, axis, 0)
        points = np.moveaxis(mesh, axis + 1, 1)
        first = np.argmax(along, axis=0)
        lines = np.flatnonzero(along.any(axis=0) & (first > 0))
        low, high = points[:, first[lines] - 1, lines], points[:, first[lines], lines]
        worth = eta @ low < eta @ best
        refined = _bisect(question, low[:, worth], high[:, worth])
        candidates = np.concatenate([best[:, None], refined], axis=1)
        best = candidates[:, np.argmin(eta @ candidates)]
    return best


def _bisect(question: _Question, low: Floats, high: Floats) -> Floats:
    """Return points (2, n) close to the border between infeasible `low` and feasible `high`, on its good side."""
    for _ in range(_BISECTIONS if low.size else 0):
        middle = (low + high) / 2.0
        good = question.degradation(middle) <= question.degradation_threshold
        low, high = np.where(good, low, middle), np.where(good, middle, high)
    return high


@lru_cache(maxsize=256)
def _table(
    surface: QosSurface, users: float, qos_threshold: float, cpu: Range, bandwidth: Range, steps: int
) -> Floats:
    """Return P(q <= threshold) on the grid (C, B) for one number of users; kept, as intervals share it."""
    axes = _grid_axes(surface, cpu, bandwidth, steps)
    return surface.degradation(qos_threshold, users, axes[0][:, None], axes[1][None, :])


@lru_cache(maxsize=32)
def _grid_axes(surface: QosSurface, cpu: Range, bandwidth: Range, steps: int) -> tuple[Floats, Floats]:
    """Return the values searched of each resource: even steps, and the knots where the surface bends."""
    first, second = (
        np.unique(np.concatenate([np.linspace(low, high, steps), knots[(knots > low) & (knots < high)]]))
        for (low, high), knots in zip((cpu, bandwidth), surface.axes[1:], strict=True)
    )
    return first, second


def _answer(point: Floats, eta: Floats, expected_degradation: float) -> CheapestAllocation:
    values = {name: float(value) for name, value in zip(RESOURCES, point, strict=True)}
    return CheapestAllocation(values, float(eta @ point), expected_degradation)


def _of(what: str, mapping: Mapping[str, _T], name: str) -> _T:
    if set(mapping) != set(RESOURCES):
        raise ConfigError(f"{what} name {sorted(mapping)}: they must name exactly {', '.join(RESOURCES)}")
    return mapping[name]
