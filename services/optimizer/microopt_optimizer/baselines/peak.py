"""Peak-alloc (paper §VI-A2): a static allocation for the peak, by brute force over a fine grid."""

from collections import OrderedDict

import msgspec
import torch

from microopt.messages import SliceProblem
from microopt_optimizer.baselines.independent import IndependentSolver, Wanted
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.solver.base import Clock, QosModel
from microopt_optimizer.solver.pool import Pool

_GRID_POINTS = 401 * 401
_CHUNK = 16_384
_CACHED = 4096


class PeakSolver(IndependentSolver):
    """Allocates for `SliceProblem.peak`, whatever the forecast; grid answers are kept by what they depend on.

    The grid has about 160,000 points: 401 a resource where there are two. Status is `feasible` where the
    forecast's SLA holds (never `optimal`: the forecast is not looked at), and `infeasible`, with the ceilings,
    where no grid point meets the peak.
    """

    name = "peak"

    def __init__(self) -> None:
        self._cache: OrderedDict[bytes, tuple[float, ...] | None] = OrderedDict()

    def considers(self, one: SliceProblem) -> bool:
        """Return true: the peak may come at any time."""
        return True

    def wanted(self, pool: Pool, one: SliceProblem, clock: Clock) -> Wanted:
        """Return the peak's allocation, or the ceilings where nothing meets the peak."""
        found = self._allocation(pool, one)
        if found is not None:
            return Wanted(dict(zip(pool.names, found, strict=True)))
        return Wanted(
            {name: bounds.ceiling for name, bounds in one.bounds.items()},
            f"slice {one.slice}: nothing within its bounds keeps {one.peak.users:g} users within "
            f"degradation {one.peak.degradation_threshold:g} of {one.peak.qos_threshold:g} "
            f"{one.sla.qos_unit}; it gets its ceilings",
        )

    def _allocation(self, pool: Pool, one: SliceProblem) -> tuple[float, ...] | None:
        """Return the peak's allocation over the pool's resources, from the cache if it is there."""
        model = pool.models[one.model]
        weights = {name: pool.problem.resources[name].weight for name in one.bounds}
        key = msgspec.msgpack.encode(
            [pool.names, model.digest, one.bounds, weights, one.peak, one.sla.higher_is_better], order="sorted"
        )
        if key not in self._cache:
            self._cache[key] = _search(pool, one, model)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return self._cache[key]


def _search(pool: Pool, one: SliceProblem, model: QosModel) -> tuple[float, ...] | None:
    """Return the cheapest grid point that meets the peak, or None."""
    names = model.header.resource_names
    count = int(_GRID_POINTS ** (1.0 / len(names)) + 1e-9)
    axes = [
        torch.linspace(one.bounds[name].floor, one.bounds[name].ceiling, max(2, count), dtype=torch.float64)
        for name in names
    ]
    grid = torch.cartesian_prod(*axes).reshape(-1, len(names))
    users, weight = torch.tensor([[one.peak.users]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    threshold = torch.tensor([one.peak.qos_threshold], dtype=torch.float64)
    with torch.no_grad():
        degradation = torch.cat(
            [
                expected_degradation(model, users, weight, chunk, threshold, one.sla.higher_is_better)
                for chunk in torch.split(grid, _CHUNK)
            ]
        )
    eta = torch.tensor([pool.problem.resources[name].weight for name in names], dtype=torch.float64)
    cost = torch.where(degradation <= one.peak.degradation_threshold, grid @ eta, torch.inf)
    index = int(cost.argmin())
    if not bool(torch.isfinite(cost[index])):
        return None
    chosen = dict(zip(names, grid[index].tolist(), strict=True))
    return tuple(chosen.get(name, 0.0) for name in pool.names)
