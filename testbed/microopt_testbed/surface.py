"""The truth that the emulated slice lives by: measured QoS quantiles as a continuous, monotone surface."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from microopt.errors import ConfigError

GNB_CPU = "gnb_cpu"
TRANSPORT_BANDWIDTH = "transport_bandwidth"

Floats = NDArray[np.float64]

_FILLED_WEIGHT = 1e-3  # a cell without measurements follows its neighbours and moves none of them
_MAX_SWEEPS = 2_000
_TOLERANCE_MBPS = 1e-6


class QosCell(Struct, frozen=True, array_like=True):
    """The measurements of one point of the grid: how many, and their quantiles in Mbit/s per user."""

    users: float
    gnb_cpu_millicores: float
    transport_bandwidth_mbps: float
    count: int
    quantiles_mbps: list[float]


class QosStatistics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shipped file `data/qos_quantiles.json`, written by `python -m microopt_testbed.derive`."""

    source: str
    licence: str
    removed: list[str]
    users: list[float]
    gnb_cpu_millicores: list[float]
    transport_bandwidth_mbps: list[float]
    levels: list[float]
    cells: list[QosCell]


@dataclass(frozen=True, eq=False)
class QosSurface:
    """Quantiles of the QoS, never better with more users, less gNB CPU or less transport bandwidth.

    `axes` are users, millicores and Mbit/s; `levels` (Q,) run from 0 to 1; `grid` (U, C, B, Q) is in Mbit/s.
    """

    axes: tuple[Floats, Floats, Floats]
    levels: Floats
    grid: Floats

    @staticmethod
    def shipped() -> "QosSurface":
        """Return the surface of the shipped statistics; it is built once for each process."""
        return _shipped()

    @classmethod
    def from_statistics(cls, statistics: QosStatistics) -> Self:
        """Build the surface: fill the cells never measured, then make every quantile level monotone.

        Raises:
            ConfigError: a cell lies off the axes, or has another number of quantiles than there are levels.
        """
        counts, raw = tabulate(statistics)
        grid = monotone_grid(_filled(raw), np.maximum(counts, _FILLED_WEIGHT))
        grid = _filled(np.where(np.isnan(raw), np.nan, grid))  # again, as the cells around have moved
        return cls(_axes(statistics), np.asarray(statistics.levels, float), grid)

    def quantiles(
        self, users: ArrayLike, gnb_cpu_millicores: ArrayLike, transport_bandwidth_mbps: ArrayLike
    ) -> Floats:
        """Return the quantiles (..., Q) in Mbit/s at the broadcast inputs (...).

        Within the grid they are multilinear. Above it more resources change nothing; below it the QoS falls
        linearly to 0 at 0 resource. More users than measured share what the largest measured number got; less
        than one user counts as one.

        Raises:
            ValueError: an input is negative or not finite.
        """
        inputs = (
            _checked("users", users),
            _checked("gnb_cpu_millicores", gnb_cpu_millicores),
            _checked("transport_bandwidth_mbps", transport_bandwidth_mbps),
        )
        points = np.broadcast_arrays(*inputs)
        most_users, least_cpu, least_bandwidth = self.axes[0][-1], self.axes[1][0], self.axes[2][0]
        scale = np.minimum(1.0, most_users / np.maximum(points[0], most_users))
        scale = scale * np.minimum(1.0, points[1] / least_cpu) * np.minimum(1.0, points[2] / least_bandwidth)
        return np.asarray(self._interpolate(points) * scale[..., None], float)

    def _interpolate(self, points: tuple[Floats, ...]) -> Floats:
        """Return the multilinear interpolation (..., Q) at points clamped to the grid."""
        located = [_locate(axis, values) for axis, values in zip(self.axes, points, strict=True)]
        total = np.zeros((*points[0].shape, self.levels.size))
        for corner in product((0, 1), repeat=3):
            weight = np.ones(points[0].shape)
            for (_, fraction), upper in zip(located, corner, strict=True):
                weight = weight * (fraction if upper else 1.0 - fraction)
            index = tuple(lower + upper for (lower, _), upper in zip(located, corner, strict=True))
            total += weight[..., None] * self.grid[index]
        # The eight weights sum to 1 only up to rounding, which must not put one level above the next.
        return np.maximum.accumulate(total, axis=-1)

    def sample(
        self,
        users: ArrayLike,
        gnb_cpu_millicores: ArrayLike,
        transport_bandwidth_mbps: ArrayLike,
        rng: np.random.Generator,
    ) -> Floats:
        """Draw one QoS value in Mbit/s for each of the broadcast inputs, by inverting the distribution."""
        quantiles = self.quantiles(users, gnb_cpu_millicores, transport_bandwidth_mbps)
        lower, fraction = _locate(self.levels, rng.random(quantiles.shape[:-1]))
        below, above = _take(quantiles, lower), _take(quantiles, lower + 1)
        return np.asarray(below + fraction * (above - below), float)

    def degradation(
        self,
        qos_threshold_mbps: ArrayLike,
        users: ArrayLike,
        gnb_cpu_millicores: ArrayLike,
        transport_bandwidth_mbps: ArrayLike,
    ) -> Floats:
        """Return P(q <= threshold), the indicator's expectation in equation (1), at the broadcast inputs.

        It is the right-continuous inverse of the piecewise linear quantile function: where many measurements
        tie at one value, the whole tie counts as soon as the threshold reaches it.
        """
        quantiles = self.quantiles(users, gnb_cpu_millicores, transport_bandwidth_mbps)
        threshold, _ = np.broadcast_arrays(np.asarray(qos_threshold_mbps, float), quantiles[..., 0])
        quantiles = np.broadcast_to(quantiles, (*threshold.shape, self.levels.size))
        reached = np.count_nonzero(quantiles <= threshold[..., None], axis=-1)
        lower = np.clip(reached - 1, 0, self.levels.size - 2)
        below, above = _take(quantiles, lower), _take(quantiles, lower + 1)
        within = np.clip(threshold, below, above) - below
        fraction = within / np.where(above > below, above - below, 1.0)
        inside = self.levels[lower] + fraction * (self.levels[lower + 1] - self.levels[lower])
        ends = np.where(reached == 0, 0.0, 1.0)
        return np.where((reached == 0) | (reached == self.levels.size), ends, inside)


def load_statistics() -> QosStatistics:
    """Read the shipped statistics.

    Raises:
        ConfigError: the file is not what `microopt_testbed.derive` writes.
    """
    file = resources.files("microopt_testbed") / "data" / "qos_quantiles.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=QosStatistics)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{file.name}: {error}; write it anew with microopt_testbed.derive") from error


def tabulate(statistics: QosStatistics) -> tuple[Floats, Floats]:
    """Return the counts (U, C, B, 1) and the quantiles (U, C, B, Q) as measured; NaN where nothing was.

    Raises:
        ConfigError: a cell lies off the axes, or has another number of quantiles than there are levels.
    """
    axes = _axes(statistics)
    shape = tuple(axis.size for axis in axes)
    counts, grid = np.zeros((*shape, 1)), np.full((*shape, len(statistics.levels)), np.nan)
    for cell in statistics.cells:
        point = (cell.users, cell.gnb_cpu_millicores, cell.transport_bandwidth_mbps)
        index = tuple(int(np.searchsorted(axis, value)) for axis, value in zip(axes, point, strict=True))
        on_grid = all(i < axis.size and axis[i] == v for i, axis, v in zip(index, axes, point, strict=True))
        if not on_grid or len(cell.quantiles_mbps) != len(statistics.levels):
            raise ConfigError(f"cell {point} of the QoS statistics: off the axes, or not one value a level")
        counts[index], grid[index] = cell.count, cell.quantiles_mbps
    return counts, grid


def monotone_grid(grid: Floats, weights: Floats) -> Floats:
    """Return the nearest grid that falls with users (axis 0) and rises with CPU and bandwidth (axes 1, 2).

    Nearest is meant in weighted least squares, by Dykstra's cyclic projections, each of them an isotonic
    regression along one axis. The mean of the upper and the lower monotone envelope would be simpler, but one
    outlier among the cells would move all cells above or below it; here it is averaged with its neighbours.
    All levels share the weights, therefore the projection keeps a higher quantile above a lower one.
    """
    ascending = grid[::-1]
    flipped_weights = np.broadcast_to(weights[::-1], ascending.shape)
    current, increments = ascending, [np.zeros_like(ascending)] * 3
    for _ in range(_MAX_SWEEPS):
        before = current
        for axis in range(3):
            wanted = current + increments[axis]
            current = _isotonic(wanted, flipped_weights, axis)
            increments[axis] = wanted - current
        if np.max(np.abs(current - before)) < _TOLERANCE_MBPS:
            break
    for axis in range(3):  # what the tolerance left over
        current = np.maximum.accumulate(current, axis=axis)
    return np.maximum.accumulate(current, axis=-1)[::-1]


def _isotonic(values: Floats, weights: Floats, axis: int) -> Floats:
    """Return the isotonic regression of each line along `axis`, by the max-min formula over means of runs."""
    lines, w = np.moveaxis(values, axis, -1), np.moveaxis(weights, axis, -1)
    size = lines.shape[-1]
    zero = np.zeros((*lines.shape[:-1], 1))
    sums = np.concatenate([zero, np.cumsum(lines * w, axis=-1)], axis=-1)
    masses = np.concatenate([zero, np.cumsum(w, axis=-1)], axis=-1)
    start, end = np.triu_indices(size)
    means = np.full((*lines.shape[:-1], size, size), np.inf)
    means[..., start, end] = (sums[..., end + 1] - sums[..., start]) / (masses[..., end + 1] - masses[..., start])
    least = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    least[..., *np.tril_indices(size, -1)] = -np.inf
    return np.moveaxis(least.max(axis=-2), -1, axis)


def _filled(grid: Floats) -> Floats:
    """Return the grid with each missing cell at the best of those that cannot be better (0 if there is none)."""
    best = np.nan_to_num(grid, nan=0.0)[::-1]
    for axis in range(3):
        best = np.maximum.accumulate(best, axis=axis)
    return np.where(np.isnan(grid), best[::-1], grid)


def _axes(statistics: QosStatistics) -> tuple[Floats, Floats, Floats]:
    users, cpu = statistics.users, statistics.gnb_cpu_millicores
    return (
        np.asarray(users, float),
        np.asarray(cpu, float),
        np.asarray(statistics.transport_bandwidth_mbps, float),
    )


def _locate(axis: Floats, values: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return for each value, clamped to the axis, the knot below it and how far it is towards the next."""
    clamped = np.clip(values, axis[0], axis[-1])
    lower = np.clip(np.searchsorted(axis, clamped, side="right") - 1, 0, axis.size - 2)
    return lower, (clamped - axis[lower]) / (axis[lower + 1] - axis[lower])


def _take(quantiles: Floats, index: NDArray[np.intp]) -> Floats:
    return np.take_along_axis(quantiles, index[..., None], axis=-1)[..., 0]


def _checked(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, float)
    if not np.all(np.isfinite(array)) or np.any(array < 0.0):
        raise ValueError(f"{name}: every value must be finite and at least 0")
    return array


@cache
def _shipped() -> QosSurface:
    return QosSurface.from_statistics(load_statistics())
