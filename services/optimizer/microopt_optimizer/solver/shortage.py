"""Who is shorted when the capacities do not suffice: by priority, and proportionally among equals."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_HAIR = 1.0 - 1e-12

Fit = Callable[[list[int], Tensor], Tensor | None]
"""Allocations [n, R] of the given slices within the given capacities [R], or None where there are none."""


def share_out(
    priorities: Sequence[tuple[bool, int]], wanted: Tensor, floors: Tensor, capacity: Tensor, fit: Fit
) -> tuple[Tensor, list[bool]]:
    """Return allocations [S, R] whose sum is within `capacity` [R], and which slices were shorted.

    `priorities` [S] say whether a slice can be met at all, then its priority. Slices of a higher one come first,
    together with others of the same, from what is left when the floors of all lower ones are set aside (as far as
    there is enough). Slices for which `fit` finds no joint solution are shorted: they get their floors and a part
    of `wanted` [S, R] above them, the same share of each slice's; where even the floors do not fit, the same share
    of each slice's floor.
    """
    allocations = torch.zeros_like(wanted)
    shorted = [False] * len(priorities)
    for level in sorted(set(priorities), reverse=True):
        places = [place for place, priority in enumerate(priorities) if priority == level]
        lower = [place for place, priority in enumerate(priorities) if priority < level]
        left = capacity - allocations.sum(0)
        spare = left - floors[lower].sum(0)
        available = torch.where(spare >= floors[places].sum(0), spare, torch.minimum(left, floors[places].sum(0)))
        granted = fit(places, available)
        if granted is None:
            granted = proportional(wanted[places], floors[places], available)
            for place in places:
                shorted[place] = True
        allocations[places] = granted
    return allocations, shorted


def proportional(wanted: Tensor, floors: Tensor, available: Tensor) -> Tensor:
    """Return floors plus the same share of what each wants above its floor, within `available` [R]; [n, R]."""
    available = available.clamp(min=0.0)
    above = (wanted - floors).clamp(min=0.0)
    floor_share = _share(available, floors.sum(0))
    above_share = _share(available - floors.sum(0), above.sum(0))
    # A hair less where it is a share, so that rounding of the sum cannot exceed what is there.
    return floors * torch.where(floor_share < 1.0, floor_share * _HAIR, floor_share) + above_share * _HAIR * above


def within(allocations: Tensor, capacity: Tensor) -> bool:
    """Return whether the sum of allocations [n, R] is within the capacities [R]."""
    return bool((allocations.sum(0) <= capacity).all())


def _share(available: Tensor, asked: Tensor) -> Tensor:
    return torch.where(asked > 0.0, available / asked.clamp(min=1e-300), torch.ones_like(asked)).clamp(0.0, 1.0)
