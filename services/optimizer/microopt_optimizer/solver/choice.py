"""One allocation for each slice within the capacities, where no price leads to it: exchanges between pairs."""

from collections.abc import Sequence

import torch
from torch import Tensor

_MOST = 256
_SWEEPS = 3
_SHORTAGE_COST = 1e6


def undominated(usage: Tensor) -> Tensor:
    """Return the rows of usage [N, R] than which no other row uses less of everything; at most 256, spread out."""
    usage = torch.unique(usage, dim=0)  # sorted by the first resource, then the second
    if usage.shape[1] <= 2:
        second = usage[:, -1]
        before = torch.cat([torch.full((1,), torch.inf, dtype=usage.dtype), second.cummin(0).values[:-1]])
        kept = usage[second < before] if usage.shape[1] == 2 else usage[:1]
    else:
        usage = usage[torch.linspace(0, usage.shape[0] - 1, min(usage.shape[0], 4 * _MOST)).long()]
        less = (usage.unsqueeze(1) <= usage.unsqueeze(0)).all(-1)
        kept = usage[less.sum(0) == 1]
    return kept[torch.linspace(0, kept.shape[0] - 1, min(kept.shape[0], _MOST)).long()]


def exchange(options: Sequence[Tensor], start: Tensor, capacity: Tensor, weights: Tensor) -> Tensor:
    """Return allocations [S, R], each a row of its slice's options [N, R], improved from `start` [S, R].

    For one pair of slices after another the best of all pairs of options is taken, the others held: first the
    least excess over the capacities [R], then the least cost at `weights` [R]. For two slices this is the optimum.
    """
    chosen = start.clone()
    options = [torch.cat([some, own.unsqueeze(0)]) for some, own in zip(options, start, strict=True)]
    count = len(options)
    for sweep in range(_SWEEPS if count > 2 else 1):
        before = chosen.clone()
        # Every slice meets another neighbour in each sweep.
        for one in range(count):
            other = (one + 1 + sweep) % count
            if other == one:
                _alone(options, chosen, one, capacity, weights)
            else:
                _pair(options, chosen, (one, other), capacity, weights)
        if torch.equal(before, chosen):
            break
    return chosen


def _alone(options: Sequence[Tensor], chosen: Tensor, one: int, capacity: Tensor, weights: Tensor) -> None:
    left = capacity - (chosen.sum(0) - chosen[one])
    score = options[one] @ weights + _shortage(options[one] - left, capacity)
    chosen[one] = options[one][score.argmin()]


def _pair(
    options: Sequence[Tensor], chosen: Tensor, pair: tuple[int, int], capacity: Tensor, weights: Tensor
) -> None:
    one, other = pair
    left = capacity - (chosen.sum(0) - chosen[one] - chosen[other])
    usage = options[one].unsqueeze(1) + options[other].unsqueeze(0)
    score = usage @ weights + _shortage(usage - left, capacity)
    first, second = divmod(int(score.argmin()), usage.shape[1])
    chosen[one], chosen[other] = options[one][first], options[other][second]


def _shortage(excess: Tensor, capacity: Tensor) -> Tensor:
    """Return the cost of exceeding capacities, far above any other; the hair keeps rounding on the safe side."""
    relative = excess / capacity.clamp(min=1e-12) + 1e-12
    return _SHORTAGE_COST * torch.where(relative > 0.0, 1e-3 + relative, torch.zeros_like(relative)).sum(-1)
