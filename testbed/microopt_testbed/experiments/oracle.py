"""The floor under every cost on the slice model: a dense grid, then zooming in on its cheapest feasible points.

It shares the slice model and nothing else with the solvers.
"""

import torch
from torch import Tensor

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed.experiments.settings import BOUNDS, WEIGHTS, Setting

_CHUNK_ROWS = 65_536
_CACHED_GRIDS = 16
_CANDIDATES = 256
_FINALISTS = 16
_ZOOM_POINTS = 15
_ZOOM_SHRINK = 2.0
_FINEST = 1e-6
"""Of the bounds' width: where the zoom ends."""


class Oracle:
    """Knows the cheapest allocation of the paper's two resources with E(β) <= β_thresh on one slice model.

    The grid has `grid_points` values a resource; its cheapest border points are polished to 1e-6 of the bounds.

    Raises:
        ConfigError: the model is of other resources.
    """

    def __init__(self, model: TrainedModel, grid_points: int) -> None:
        self._model, self._names = model, model.header.resource_names
        if sorted(self._names) != sorted(BOUNDS):
            raise ConfigError(f"model {model.name} has resources {sorted(self._names)}, not {sorted(BOUNDS)}")
        self._points_a_side = grid_points
        self._low = torch.tensor([BOUNDS[name].floor for name in self._names], dtype=torch.float64)
        self._high = torch.tensor([BOUNDS[name].ceiling for name in self._names], dtype=torch.float64)
        self._eta = torch.tensor([WEIGHTS[name] for name in self._names], dtype=torch.float64)
        steps = torch.linspace(0.0, 1.0, grid_points, dtype=torch.float64)
        self._grid = self._low + (self._high - self._low) * torch.cartesian_prod(steps, steps)
        self._on_grid: dict[tuple[float, float], Tensor] = {}

    def cheapest(self, setting: Setting) -> dict[str, float] | None:
        """Return the cheapest allocation found, by resource, or None where no grid point holds the SLA."""
        missed = torch.stack([self._missed_on_grid(users, setting.qos_threshold) for users in setting.users])
        feasible = _shares(setting) @ missed <= setting.degradation_threshold
        if not bool(feasible.any()):
            return None
        cost = torch.where(feasible, self._grid @ self._eta, torch.inf)
        best = self._zoom(setting, self._grid[_border(cost.view(self._points_a_side, -1))])
        return dict(zip(self._names, best.tolist(), strict=True))

    def degradation(self, setting: Setting, points: Tensor) -> Tensor:
        """Return E(β) [N] at points [N, K] (paper eq. 1): each atom's share of the user-time times its P(miss)."""
        missed = [self._missed(users, setting.qos_threshold, points) for users in setting.users]
        return _shares(setting) @ torch.stack(missed)

    def _missed(self, users: float, qos_threshold: float, points: Tensor) -> Tensor:
        """Return P(QoS misses its threshold) [N] for a number of users at points [N, K]."""
        atom = torch.full((1,), users, dtype=torch.float64)
        better = self._model.header.higher_is_better
        with torch.no_grad():
            parts = [
                self._model(atom, part).missed(qos_threshold, better) for part in torch.split(points, _CHUNK_ROWS)
            ]
        return torch.cat(parts)

    def _missed_on_grid(self, users: float, qos_threshold: float) -> Tensor:
        """Return P(miss) over the grid; kept, as settings differ in β_thresh and in weights more than in these."""
        key = (users, qos_threshold)
        if key not in self._on_grid:
            if len(self._on_grid) >= _CACHED_GRIDS:
                self._on_grid.pop(next(iter(self._on_grid)))
            self._on_grid[key] = self._missed(users, qos_threshold, self._grid)
        return self._on_grid[key]

    def _zoom(self, setting: Setting, best: Tensor) -> Tensor:
        """Return the cheapest feasible point [K] in ever smaller boxes around points [N, K] that are feasible."""
        steps = torch.linspace(-1.0, 1.0, _ZOOM_POINTS, dtype=torch.float64)
        offsets = torch.cartesian_prod(steps, steps).unsqueeze(0)
        reach = 1.5 * (self._high - self._low) / (self._points_a_side - 1)
        while bool((reach > _FINEST / _ZOOM_SHRINK * (self._high - self._low)).any()):
            moved = torch.minimum(torch.maximum(best.unsqueeze(1) + offsets * reach, self._low), self._high)
            around = torch.cat([best.unsqueeze(1), moved], dim=1)
            reached = self.degradation(setting, around.flatten(0, 1)).view(around.shape[:2])
            cost = torch.where(reached <= setting.degradation_threshold, around @ self._eta, torch.inf)
            best = around[torch.arange(len(around)), cost.argmin(1)]
            # Far behind after a round is behind for good.
            best = best[(best @ self._eta).argsort()[: max(_FINALISTS, len(best) // 2)]]
            reach = reach / _ZOOM_SHRINK
        return best[0]


def _shares(setting: Setting) -> Tensor:
    users = torch.tensor(setting.users, dtype=torch.float64)
    share = users * torch.tensor(setting.weights, dtype=torch.float64)
    return share / share.sum()


def _border(cost: Tensor) -> Tensor:
    """Return the cheapest points of a table of costs (infinite: infeasible) with an infeasible one just below."""
    edge = torch.zeros_like(cost, dtype=torch.bool)
    edge[0], edge[:, 0] = True, True
    edge[1:] |= torch.isinf(cost[:-1])
    edge[:, 1:] |= torch.isinf(cost[:, :-1])
    masked = torch.where(edge, cost, torch.inf).flatten()
    chosen = torch.topk(masked, min(_CANDIDATES, masked.numel()), largest=False).indices
    return chosen[torch.isfinite(masked[chosen])]
