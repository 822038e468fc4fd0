"""SLSQP (scipy) from many starts, with exact gradients by autograd."""

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import ndtri
from torch import Tensor

from solver.instance import Floats, Instance
from solver.peers.search import Search, scattered

STARTS = 8
_SCREEN = 64
_CLIP = 1e-12
_MARGIN = 1e-6
SETTINGS = (
    "scipy; 64 Sobol points, 8 starts that are cheap and near the constraint's edge, up to 25 iterations each, "
    "ftol 1e-8, bounds; the constraint as probit(E) <= probit(beta), which is nearly linear where E itself is "
    "flat and has no gradient. Tried beside it: E itself (a median gap of 2 % from 8 starts), 2 and 4 "
    "starts, 16 and 256 points, 15 and 40 iterations, ftol 1e-6, starts chosen by cost alone."
)


def cheapest(instance: Instance, seed: int, starts: int = STARTS) -> Tensor | None:
    """Return the best feasible point that any of the runs passed."""
    found = Search(instance)
    points = scattered(instance.dimension, _SCREEN, seed)
    cost, excess = found.look(points)
    edge = np.abs(_probit(excess.numpy() + instance.threshold) - _probit(instance.threshold))
    slope = instance.slope_of_cost.numpy()
    constraint = _Constraint(found)
    for index in np.argsort(cost.numpy() + 0.3 * edge)[:starts]:
        minimize(
            lambda point: float(slope @ point),
            points[index].numpy(),
            jac=lambda _: slope,
            bounds=[(0.0, 1.0)] * instance.dimension,
            method="SLSQP",
            constraints={"type": "ineq", "fun": constraint.value, "jac": constraint.slope},
            options={"maxiter": 25, "ftol": 1e-8},
        )
    return found.best


class _Constraint:
    """probit(β) − probit(E), not negative where feasible; value and gradient of the last point are kept."""

    def __init__(self, found: Search) -> None:
        self._found = found
        self._level = float(_probit(found.instance.threshold)) - _MARGIN
        self._at: bytes = b""
        self._last: tuple[float, Floats]

    def value(self, point: Floats) -> float:
        return self._look(point)[0]

    def slope(self, point: Floats) -> Floats:
        return self._look(point)[1]

    def _look(self, point: Floats) -> tuple[float, Floats]:
        if point.tobytes() != self._at:
            inside = torch.from_numpy(np.clip(point, 0.0, 1.0)).unsqueeze(0)
            instance = self._found.instance
            value, slope = instance.degradation_and_slope(inside)
            self._found.note(inside, instance.cost(inside), value - instance.threshold)
            level = float(_probit(float(value)))
            steepness = np.sqrt(2.0 * np.pi) * np.exp(0.5 * level**2)
            self._at, self._last = point.tobytes(), (self._level - level, -steepness * slope[0].numpy())
        return self._last


def _probit(ratio):
    return ndtri(np.clip(ratio, _CLIP, 1.0 - _CLIP))
