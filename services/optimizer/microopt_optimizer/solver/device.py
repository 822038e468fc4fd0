"""Where a problem is solved: on the device that its models are on."""

from contextlib import AbstractContextManager, nullcontext

import torch

from microopt.errors import ModelError
from microopt.messages import Problem
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.base import Models


def device_of(problem: Problem, models: Models) -> torch.device:
    """Return the device of the problem's trained networks; the CPU where there are none.

    Raises:
        ModelError: they are on several devices.
    """
    used = [models.get(name) for name in {one.model for one in problem.slices}]
    devices = {model.network.qos_scale.device for model in used if isinstance(model, TrainedModel)}
    if len(devices) > 1:
        names = sorted(map(str, devices))
        raise ModelError(f"models of pool {problem.pool} are on {names}; move their networks to one of these")
    return devices.pop() if devices else torch.device("cpu")


def solving_on(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which tensors are made on the device."""
    # The context slows down every call: none where tensors are made on the CPU anyway.
    return nullcontext() if device.type == "cpu" else device
