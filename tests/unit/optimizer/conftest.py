"""Slice models with known optima, and problems about them."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import torch

from microopt.messages import Interval, Problem, SliceProblem, Traffic
from microopt.specs import Bounds, ResourceSpec, Sla
from microopt_optimizer.slice_model.distribution import normal
from microopt_optimizer.slice_model.model_file import ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.slice_model.network import Architecture, SliceModel

UNITS = {"gnb_cpu": "millicores", "transport_bandwidth": "Mbit/s", "upf_cpu": "millicores"}
QUANTILE = 1.2815515655446004  # of 0.9 of the standard normal: what degradation threshold 0.1 asks for


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@dataclass(frozen=True)
class CobbDouglas:
    """QoS of mean `gain` Π r^a / users (its inverse in ms where lower is better) and standard deviation `std`.

    For one atom the cheapest allocation is known in closed form.
    """

    exponents: dict[str, float] = field(default_factory=lambda: {"gnb_cpu": 0.5, "transport_bandwidth": 0.5})
    gain: float = 1.0
    std: float = 0.5
    higher_is_better: bool = True

    @property
    def header(self):
        return ModelHeader(
            architecture=Architecture(inputs=len(self.exponents) + 1),
            resources=tuple(
                ResourceInput(name=name, unit=UNITS[name], trained=Range(0.0, 1e6)) for name in self.exponents
            ),
            users=Range(0.0, 100.0),
            qos_metric="dl_thpt_per_ue",
            qos_unit="Mbit/s",
            higher_is_better=self.higher_is_better,
        )

    @property
    def digest(self):
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def __call__(self, users, resources):
        exponents = torch.tensor(list(self.exponents.values()), dtype=resources.dtype)
        rate = self.gain * torch.exp((exponents * torch.log(resources.clamp(min=1e-9))).sum(-1))
        users = users.clamp(min=1e-9)
        mean = rate / users if self.higher_is_better else users / rate
        return normal(mean, torch.full_like(mean, self.std))

    def needed(self, users, qos):
        """Return the least Π r^a that holds `qos` in 90 % of the user-time."""
        if self.higher_is_better:
            return (qos + QUANTILE * self.std) * users / self.gain
        return users / ((qos - QUANTILE * self.std) * self.gain)

    def cheapest(self, users, qos, prices):
        """Return the allocation of least cost at `prices`, without bounds."""
        total = sum(self.exponents.values())
        scale = self.needed(users, qos) ** (1.0 / total)
        for name, exponent in self.exponents.items():
            scale *= (prices[name] / exponent) ** (exponent / total)
        return {name: scale * exponent / prices[name] for name, exponent in self.exponents.items()}


@pytest.fixture
def cobb_douglas():
    return CobbDouglas


@pytest.fixture
def slice_problem():
    def make(number=1, *, users=(2.0,), weights=None, qos=3.0, beta=0.1, bounds=None, model="m", **other):
        weights = weights or tuple(1.0 / len(users) for _ in users)
        bounds = bounds or {"gnb_cpu": (0.5, 100.0), "transport_bandwidth": (0.5, 100.0)}
        return SliceProblem(
            slice=f"1-{number:06x}",
            sla=Sla(
                qos_threshold=qos,
                degradation_threshold=beta,
                higher_is_better=other.pop("higher_is_better", True),
            ),
            traffic=Traffic(tuple(users), tuple(weights)),
            bounds={name: Bounds(*pair) for name, pair in bounds.items()},
            model=model,
            **other,
        )

    return make


@pytest.fixture
def problem():
    def make(*slices, weights=None, capacity=None, deadline_s=60.0):
        weights = weights or {"gnb_cpu": 1.0, "transport_bandwidth": 2.0}
        return Problem(
            pool="edge",
            interval=Interval(datetime(2024, 5, 18, tzinfo=UTC), 3600.0),
            resources={
                name: ResourceSpec(unit=UNITS[name], weight=weight, capacity=(capacity or {}).get(name, 1e9))
                for name, weight in weights.items()
            },
            slices=list(slices),
            deadline_s=deadline_s,
        )

    return make


@pytest.fixture
def random_network():
    return _random_network


def _random_network(seed, resources=2):
    """A network with the weights it starts training with: as little monotone as chance wants."""
    torch.manual_seed(seed)
    network = SliceModel(Architecture(inputs=resources + 1))
    network.norm.running_mean.fill_(10.0)
    network.norm.running_var.fill_(30.0)
    network.qos_offset.fill_(4.0)
    network.qos_scale.fill_(8.0)
    names = ("gnb_cpu", "transport_bandwidth", "upf_cpu")[:resources]
    units = ("millicores", "Mbit/s", "millicores")
    header = ModelHeader(
        architecture=network.architecture,
        resources=tuple(
            ResourceInput(name=name, unit=unit, trained=Range(0.0, 100.0))
            for name, unit in zip(names, units, strict=False)
        ),
        users=Range(0.0, 10.0),
        qos_metric="dl_thpt_per_ue",
        qos_unit="Mbit/s",
        higher_is_better=True,
    )
    return TrainedModel(network, header, f"random-{seed}")
