import copy

import pytest
import torch

from microopt.errors import ModelError
from microopt_optimizer.slice_model.model_file import TrainedModel, save
from microopt_optimizer.slice_model.model_store import ModelStore
from microopt_optimizer.solver.device import device_of
from microopt_optimizer.solver.microopt import MicroOptSolver
from microopt_optimizer.worker.agent import OptimizerSettings

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CPU = "gnb_cpu"
BOUNDS = {CPU: (1.0, 60.0), "transport_bandwidth": (1.0, 60.0)}


def on(model, device):
    return TrainedModel(copy.deepcopy(model.network).to(device), model.header, model.name)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_solved_in_a_devices_context_is_solved_as_without(device, slice_problem, problem, random_network):
    models = {"m": random_network(4)}
    slices = [slice_problem(number, qos=1.0 + number, bounds=BOUNDS) for number in (1, 2, 3)]
    free = MicroOptSolver().solve(problem(*slices), models)
    capacity = {CPU: 0.9 * sum(answer.allocation[CPU] for answer in free.slices)}
    for asked in (problem(*slices), problem(*slices, capacity=capacity)):
        plain = MicroOptSolver().solve(asked, models)
        with torch.device(device):
            there = MicroOptSolver().solve(asked, {"m": on(models["m"], device)})
        for one, other in zip(plain.slices, there.slices, strict=True):
            assert other.status == one.status
            assert other.cost == pytest.approx(one.cost, rel=1e-6)


async def test_a_device_that_cannot_take_a_model_costs_that_model_alone(random_network, tmp_path):
    model = random_network(0)
    save(model, tmp_path / "m.safetensors")
    store = ModelStore(None, {"m": str(tmp_path / "m.safetensors")}, "fpga")
    with pytest.raises(ModelError, match="model 'm': cannot be put onto fpga"):
        await store.get("m")


def test_models_on_several_devices_are_refused(slice_problem, problem, random_network):
    models = {"here": random_network(1), "elsewhere": random_network(2)}
    models["elsewhere"].network.to("meta")
    asked = problem(slice_problem(1, model="here"), slice_problem(2, model="elsewhere"))
    with pytest.raises(ModelError, match=r"are on \['cpu', 'meta'\]; move"):
        device_of(asked, models)


def test_a_gpu_is_for_the_solver_that_can_use_it():
    assert OptimizerSettings(serve=("microopt",), device="cuda").device == "cuda"
    with pytest.raises(ValueError, match="device: cuda is for serve"):
        OptimizerSettings(device="cuda")
