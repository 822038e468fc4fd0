"""Brute force for two resources: E(β) at every point of a grid in float32, then the cheapest that holds."""

import copy

import torch
from torch import Tensor

from microopt_optimizer.slice_model.distribution import expected_degradation
from solver.instance import Instance

LINES = 600
_ROWS = 16_384
_FLOAT32 = 1e-5
"""Taken off the threshold, so that a point that holds in float32 holds in float64 too."""
SETTINGS = (
    "600 x 600 points in float32, 16,384 in a call of the model (1,024 to 65,536 were tried; 8,192 is as fast). "
    "Of 300, 400, 600, 800 and 1,000 lines, 600 are the fewest with a largest gap below 0.4 %; more gave no less."
)


def cheapest(instance: Instance, seed: int, lines: int = LINES) -> Tensor | None:
    """Return the cheapest feasible point of the grid; chance has no part in it."""
    del seed
    network = copy.deepcopy(instance.model.network).float()
    axis = torch.linspace(0.0, 1.0, lines)
    points = torch.cartesian_prod(*[axis] * instance.dimension)
    resources = instance.floor.float() + instance.span.float() * points
    users, weights = (
        torch.tensor(one, dtype=torch.float32)
        for one in (instance.asked.traffic.users, instance.asked.traffic.weights)
    )
    qos, limit = instance.asked.sla.qos_threshold, instance.threshold - _FLOAT32
    with torch.no_grad():
        parts = torch.split(resources, max(1, _ROWS // len(users)))
        missed = torch.cat([expected_degradation(network, users, weights, part, qos) for part in parts])
        cost = torch.where(missed <= limit, points @ instance.slope_of_cost.float(), torch.inf)
    best = cost.argmin()
    return points[best].double() if bool(torch.isfinite(cost[best])) else None
