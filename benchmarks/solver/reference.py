"""The cheapest feasible allocation of two resources by a dense grid, then finer ones along the constraint's edge.

It shares nothing with the solver but the slice model. Along each line of the grid the least feasible value of the
other resource is bracketed by the grid and bisected; around the cheapest lines the same is done again ten times
finer, until lines are 1e-6 of the bounds apart. Lines run along one resource, then along the other, since an edge
can be steep for either.
"""

import torch
from torch import Tensor

from solver.instance import Instance

FINEST = 1e-6
_BISECTIONS = 34
_ZOOM_BISECTIONS = 20
_ZOOM_LINES, _ZOOM_POINTS = 33, 17


def cheapest(instance: Instance, lines: int, kept: int = 12, finest: float = FINEST) -> Tensor | None:
    """Return the cheapest point [2] found, which is feasible, or None where no point of the grid is.

    `kept` lines of each kind are looked at closely, until lines are `finest` of the bounds apart.
    """
    axis = torch.linspace(0.0, 1.0, lines, dtype=torch.float64)
    holds = (instance.degradation(torch.cartesian_prod(axis, axis)) <= instance.threshold).view(lines, lines)
    if not bool(holds.any()):
        return None
    rows, columns = _along(instance, 0, holds, axis), _along(instance, 1, holds.T, axis)
    ends = torch.stack(
        [
            _refined(instance, along, _distinct(instance, along, points, 2.0 / lines, kept), 2.0 / lines, finest)
            for along, points in enumerate((rows, columns))
        ]
    )
    return ends[instance.cost(ends).argmin()]


def _along(instance: Instance, along: int, holds: Tensor, axis: Tensor) -> Tensor:
    """Return edges [n, 2] on lines that fix resource `along`; `holds` is [lines, values of the other]."""
    some = holds.any(1)
    lines = axis[some]
    values = _least(instance, along, lines, axis.expand(len(lines), -1), holds[some], _BISECTIONS)
    return _points(along, lines, values)


def _refined(instance: Instance, along: int, best: Tensor, reach: float, finest: float) -> Tensor:
    """Return the best point [2] near any of some, by ever finer lines."""
    while reach > finest:
        best = _closer(instance, along, best, reach)
        reach *= 4.0 / (_ZOOM_LINES - 1)
    return best[instance.cost(best).argmin()]


def _closer(instance: Instance, along: int, best: Tensor, reach: float) -> Tensor:
    """Return better points [n, 2] within `reach` along the lines' resource, and four times that along the other.

    An edge is seldom steeper on lines of this kind; where it is, the other kind finds it.
    """
    offsets = reach * torch.linspace(-1, 1, _ZOOM_LINES, dtype=torch.float64)
    lines = (best[:, along, None] + offsets).clamp(0.0, 1.0).flatten()
    around = 4.0 * reach * torch.linspace(-1, 1, _ZOOM_POINTS, dtype=torch.float64)
    values = (best[:, 1 - along, None] + around).clamp(0.0, 1.0).repeat_interleave(_ZOOM_LINES, dim=0)
    every = _points(along, lines.unsqueeze(-1).expand_as(values), values)
    holds = (instance.degradation(every.reshape(-1, 2)) <= instance.threshold).view_as(values)
    least = _least(instance, along, lines, values, holds, _ZOOM_BISECTIONS)
    points = _points(along, lines, least).view(len(best), _ZOOM_LINES, 2)
    costs = torch.where(holds.any(1).view(len(best), -1), instance.cost(points), torch.inf)
    found, index = costs.min(1)
    better = (found < instance.cost(best)).unsqueeze(1)
    return torch.where(better, points[torch.arange(len(best)), index], best)


def _least(
    instance: Instance, along: int, lines: Tensor, values: Tensor, holds: Tensor, bisections: int
) -> Tensor:
    """Return for each line the least value that `holds`, bisected down from `values` [n, V]; [n]."""
    first = holds.to(torch.int8).argmax(1, keepdim=True)
    high = values.gather(1, first).squeeze(1)
    low = values.gather(1, (first - 1).clamp(min=0)).squeeze(1)
    for _ in range(bisections):
        middle = 0.5 * (low + high)
        inside = instance.degradation(_points(along, lines, middle)) <= instance.threshold
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return high


def _distinct(instance: Instance, along: int, points: Tensor, reach: float, kept: int) -> Tensor:
    """Return the cheapest points [n, 2], none on a line within `reach` of another's."""
    chosen: list[Tensor] = []
    for index in instance.cost(points).argsort().tolist():
        if all(abs(float(points[index, along] - other[along])) > reach for other in chosen):
            chosen.append(points[index])
        if len(chosen) == kept:
            break
    return torch.stack(chosen)


def _points(along: int, lines: Tensor, values: Tensor) -> Tensor:
    pair = (lines, values) if along == 0 else (values, lines)
    return torch.stack(pair, dim=-1)
