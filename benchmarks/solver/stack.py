"""Ten thousand slice models, no two alike, each of a slice of its own: trained together, and kept on disk.

The first thousand are trained, all in one stack of networks, each on draws from a synthetic slice of its own.
Those after them are these with every weight changed by about 2 %.
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import torch as safetensors
from torch import Tensor

from microopt_optimizer.slice_model.model_file import ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.slice_model.network import Architecture, SliceModel
from solver.synthetic import CEILING, FLOOR, MOST_USERS, Truth, names

CHANGED_BY: Final = 0.02
_ROWS = 64
_RATE = 1e-2
_SEED = 5

Weights = dict[str, Tensor]


def weights(folder: Path, count: int, steps: int) -> Path:
    """Return the file with the trained stack, which is made where it is not there."""
    path = folder / f"stack-{count}-{steps}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        safetensors.save_file(_trained(count, steps), partial)
        partial.replace(path)
    return path


def models(path: Path, slices: int) -> dict[str, TrainedModel]:
    """Return the models of the first `slices` slices by name."""
    stack = safetensors.load_file(path)
    count = stack["mean.0.weight"].shape[0]
    made = (TrainedModel(_member(stack, index, count), _header(), f"slice-{index}") for index in range(slices))
    return {model.name: model for model in made}


def _trained(count: int, steps: int) -> Weights:
    rng = np.random.default_rng(_SEED)
    truths = [Truth.drawn(rng, 2) for _ in range(count)]
    torch.manual_seed(_SEED)
    network = SliceModel(Architecture(inputs=3, members=count))
    users, given, qos = _drawn(truths, rng, 1_024)
    network.qos_offset.fill_(float(qos.mean()))
    network.qos_scale.fill_(float(qos.std()))
    optimizer = torch.optim.Adam(network.train().parameters(), lr=_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(users.shape[1], (_ROWS,))
        optimizer.zero_grad()
        # A sum over the members: each is trained as if it were alone.
        density = network.each(users[:, rows], given[:, rows]).log_density(qos[:, rows])
        (-density.mean(1).sum()).backward()
        optimizer.step()
        schedule.step()
    inputs = torch.cat([users.unsqueeze(-1), given], dim=-1).double()
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    state["norm.running_mean"], state["norm.running_var"] = inputs.mean(1).flatten(), inputs.var(1).flatten()
    return state


def _drawn(truths: list[Truth], rng: np.random.Generator, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return users [M, rows], allocations [M, rows, 2] and QoS [M, rows]."""
    parts = zip(*(truth.sampled(rng, rows) for truth in truths), strict=True)
    users, given, qos = (torch.tensor(np.stack(part), dtype=torch.float32) for part in parts)
    return users, given, qos


def _member(stack: Weights, index: int, count: int) -> SliceModel:
    """Return one network of the stack, changed where it is not one of the trained."""
    place, random = index % count, torch.Generator().manual_seed(index)
    network = SliceModel(Architecture(inputs=3))
    state = {}
    for name, tensor in stack.items():
        own = _of_member(name, tensor, place, count)
        if index >= count and name.endswith(("weight", "bias")):
            own = own * (1.0 + CHANGED_BY * torch.randn(own.shape, generator=random))
        state[name] = own
    network.load_state_dict(state)
    return network


def _of_member(name: str, tensor: Tensor, place: int, count: int) -> Tensor:
    """Return a member's part: batch norm has all members' features in one row, the layers a row a member."""
    if tensor.dim() == 0:
        return tensor
    return tensor.view(count, -1)[place] if name.startswith("norm.") else tensor[place : place + 1]


def _header() -> ModelHeader:
    within = Range(FLOOR, CEILING)
    return ModelHeader(
        architecture=Architecture(inputs=3),
        resources=tuple(ResourceInput(name=name, unit="Mbit/s", trained=within) for name in names(2)),
        users=Range(1.0, MOST_USERS),
        qos_metric="dl_thpt_per_ue",
        qos_unit="Mbit/s",
        higher_is_better=True,
    )
