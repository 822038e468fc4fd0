"""The adaptive margin with the slice model that ships and the optimizer `microopt`: errors as they come.

The model is trained on a sweep of the emulated slice; "optimistic" is the same with its QoS scaled by 1.15.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import torch
from msgspec.structs import replace

from microopt.messages import Traffic, Values
from microopt_optimizer.slice_model import training
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.solver.microopt import MicroOptSolver
from microopt_testbed.experiments.problem import MODEL, as_problem
from microopt_testbed.experiments.settings import UNITS, Setting
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH
from microopt_testbed.sweep import sweep
from route.feedback import ONE_FOR_ALL_LOADS, OPTIMISM, Setup, compared
from route.world import USERS, World

_DEADLINE_S: Final = 1.0


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, solved by `microopt`."""

    network: TrainedModel

    def answer(self, world: World, interval: int, qos_threshold: float, target: float) -> Values:
        """Return the optimizer's answer for the interval's own users."""
        traffic = _traffic(world, interval)
        problem = as_problem(Setting(traffic.users, traffic.weights, qos_threshold, target), _DEADLINE_S)
        (answer,) = MicroOptSolver().solve(problem, {MODEL: self.network}).slices
        return answer.allocation

    def expected(self, world: World, interval: int, qos_threshold: float, allocation: Values) -> float:
        """Return what the model expects an allocation's degradation to be."""
        traffic = _traffic(world, interval)
        values = [allocation[name] for name in self.network.header.resource_names]
        atoms = (torch.tensor(part, dtype=torch.float64) for part in (traffic.users, traffic.weights))
        with torch.inference_mode():
            resources = torch.tensor(values, dtype=torch.float64)
            return float(expected_degradation(self.network, *atoms, resources, qos_threshold))


def _traffic(world: World, interval: int) -> Traffic:
    counts = world.counts[interval]
    idle = max(0, round(world.spec.interval_s / world.spec.slot_s) - int(counts.sum()))
    total = int(counts.sum()) + idle
    some = [(float(u), int(c) / total) for u, c in zip((0, *USERS), (idle, *counts), strict=True) if c]
    return Traffic(tuple(u for u, _ in some), tuple(w for _, w in some))


def trained(epochs: int) -> TrainedModel:
    """Return the model that ships, trained on a sweep."""
    table = sweep()
    names = (GNB_CPU, TRANSPORT_BANDWIDTH)
    rows = dataset_from_arrays(
        table[:, 0], table[:, 1:3], table[:, 3], names=names, units=tuple(UNITS[name] for name in names)
    )
    return training.train(rows, replace(training.FAST, epochs=epochs), name="sweep")


def scaled(model: TrainedModel, factor: float) -> TrainedModel:
    """Return a model that expects `factor` times the QoS."""
    network = deepcopy(model.network)
    network.qos_offset.mul_(factor)
    network.qos_scale.mul_(factor)
    return TrainedModel(network, model.header, f"{model.name} x {factor:g}")


def measure(seeds: int = 6, intervals: int = 168, epochs: int = training.FAST.epochs) -> dict[str, Any]:
    """Return how the margin does with a trained model, as it is and too optimistic, and what else there is."""
    torch.set_num_threads(1)
    network = trained(epochs)
    good, optimistic = Trained(network), Trained(scaled(network, OPTIMISM))
    setups = {
        "good_model": Setup(model=good),
        "good_model_one_for_all_loads": Setup(model=good, settings=ONE_FOR_ALL_LOADS),
        "good_without_margin": Setup(model=good, adapts=False),
        "good_fixed_qos_margin": Setup(model=good, adapts=False, qos_margin=0.1),
        "optimistic_model": Setup(model=optimistic),
        "optimistic_model_one_for_all_loads": Setup(model=optimistic, settings=ONE_FOR_ALL_LOADS),
        "optimistic_without_margin": Setup(model=optimistic, adapts=False),
    }
    return {**compared(setups, range(1000, 1000 + seeds), intervals), "seeds": seeds, "intervals": intervals}
