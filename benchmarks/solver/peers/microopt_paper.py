"""The paper's Algorithm 1 as printed: the optimizer `microopt-paper`."""

import torch
from msgspec.structs import replace
from torch import Tensor

from microopt_optimizer.solver import registry
from solver.instance import Instance

NAME = "microopt-paper"
SETTINGS = "the optimizer microopt-paper with its own defaults: those of the paper where it prints them"


def cheapest(instance: Instance, seed: int, deadline_s: float | None = None) -> Tensor | None:
    """Return what it allocates, if that holds; its own seed is part of its defaults."""
    del seed
    problem = instance.problem if deadline_s is None else replace(instance.problem, deadline_s=deadline_s)
    models = {instance.asked.model: instance.model}
    (found,) = registry.create(NAME).solve(problem, models).slices
    if found.status == "infeasible":
        return None
    allocation = torch.tensor([found.allocation[name] for name in instance.names], dtype=torch.float64)
    return (allocation - instance.floor) / instance.span
