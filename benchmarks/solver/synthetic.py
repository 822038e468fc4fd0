"""Synthetic slices: any number of resources, each slice with its own bottlenecks, and models trained on them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy.special import ndtr

from microopt.messages import Problem, SliceProblem, Traffic
from microopt.specs import Bounds, ResourceSpec, Sla
from microopt_optimizer.slice_model import training
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.distribution import user_shares
from microopt_optimizer.slice_model.model_file import TrainedModel
from solver.problems import AMPLE, one_slice, pool

FLOOR, CEILING = 5.0, 50.0
MOST_USERS: Final = 6.0
_NEEDED: Final = 0.55
"""How far between floors and ceilings an allocation just holds the SLA: less of one needs more of others."""
_BISECTIONS = 50

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """How QoS comes about: a soft minimum of what each resource carries, shared by the users, and noise."""

    carries: Floats
    softness: float
    sharing: float
    noise: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, resources: int) -> "Truth":
        """Return a slice of its own."""
        return cls(
            carries=rng.uniform(0.5, 1.5, resources),
            softness=rng.uniform(1.0, 4.0),
            sharing=rng.uniform(0.6, 1.0),
            noise=rng.uniform(0.05, 0.2),
        )

    def sampled(self, rng: np.random.Generator, rows: int) -> tuple[Floats, Floats, Floats]:
        """Return users [rows], allocations [rows, K] and QoS [rows] in Mbit/s a user."""
        users = rng.uniform(1.0, MOST_USERS, rows)
        resources = rng.uniform(FLOOR, CEILING, (rows, len(self.carries)))
        carried = ((self.carries * resources) ** -self.softness).mean(1) ** (-1.0 / self.softness)
        mean = 0.6 * carried / users**self.sharing
        qos = mean * (1.0 + self.noise * rng.standard_normal(rows)) + 0.1 * rng.standard_normal(rows)
        return users, resources, np.maximum(qos, 0.0)


def names(resources: int) -> list[str]:
    """Return the names of the resources."""
    known = ["transport_bandwidth", "gnb_cpu"]
    return [*known, *(f"resource_{index}" for index in range(2, resources))][:resources]


def trained(seed: int, resources: int, *, rows: int, epochs: int) -> TrainedModel:
    """Return the model of one slice."""
    rng = np.random.default_rng(seed)
    users, given, qos = Truth.drawn(rng, resources).sampled(rng, rows)
    units = ["Mbit/s"] * resources
    dataset = dataset_from_arrays(users, given, qos, names=names(resources), units=units)
    config = replace(training.FAST, epochs=epochs, teachers=0, spread_epochs=min(epochs, 10), seed=seed)
    return training.train(dataset, config, name=f"synthetic-{resources}-{seed}")


def traffic(rng: np.random.Generator, atoms: int) -> Traffic:
    """Return equally likely numbers of users around a number of the slice's own."""
    centre = rng.uniform(2.0, 5.0)
    users = np.sort(np.clip(rng.normal(centre, 0.6, atoms), 1.0, MOST_USERS))
    return Traffic(tuple(users.tolist()), (1.0 / atoms,) * atoms)


def resource_specs(resources: int) -> dict[str, ResourceSpec]:
    """Return weights of one over the ceiling, and more capacity than anyone could use."""
    return {name: ResourceSpec(unit="Mbit/s", weight=1.0 / CEILING, capacity=AMPLE) for name in names(resources)}


def asked(rng: np.random.Generator, number: int, model: TrainedModel, atoms: int) -> SliceProblem:
    """Return a slice with traffic and an SLA of its own, which about half of its ceilings just hold."""
    bounds = {name: Bounds(FLOOR, CEILING) for name in model.header.resource_names}
    expected = traffic(rng, atoms)
    beta = float(rng.choice([0.05, 0.1, 0.2, 0.3]))
    qos = max(1e-3, qos_at(model, expected, beta))
    sla = Sla(qos_threshold=qos, degradation_threshold=beta)
    return one_slice(number, sla, expected, bounds, model.name)


def problem(seed: int, model: TrainedModel, atoms: int) -> Problem:
    """Return the problem of one slice by itself."""
    one = asked(np.random.default_rng(seed), 1, model, atoms)
    return pool([one], resource_specs(len(model.header.resources)))


def qos_at(model: TrainedModel, expected: Traffic, beta: float) -> float:
    """Return the QoS threshold that a little more than half of every resource just holds."""
    given = torch.full((len(model.header.resources),), FLOOR + _NEEDED * (CEILING - FLOOR), dtype=torch.float64)
    users, weights = (torch.tensor(one, dtype=torch.float64) for one in (expected.users, expected.weights))
    with torch.no_grad():
        qos = model(users, given)
    share = user_shares(users, weights).unsqueeze(-1) * qos.weight
    share, mean, std = share.numpy(), qos.mean.numpy(), qos.std.numpy()
    low, high = 0.0, 1_000.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        held = float((share * ndtr((middle - mean) / std)).sum()) <= beta
        low, high = (middle, high) if held else (low, middle)
    return low
