"""The paper's constant settings: 1 to 5 users, three QoS thresholds and three degradation thresholds."""

from itertools import product
from typing import Final

from microopt.messages import Problem, Traffic
from microopt.specs import Bounds, ResourceSpec, Sla
from solver.problems import AMPLE, one_slice, pool

USERS: Final = (1.0, 2.0, 3.0, 4.0, 5.0)
QOS_MBPS: Final = (3.0, 4.0, 5.0)
BETA: Final = (0.1, 0.2, 0.3)
BOUNDS: Final = {"transport_bandwidth": Bounds(5.0, 50.0), "gnb_cpu": Bounds(500.0, 4500.0)}
RESOURCES: Final = {
    "transport_bandwidth": ResourceSpec(unit="Mbit/s", weight=1 / 50, capacity=AMPLE),
    "gnb_cpu": ResourceSpec(unit="millicores", weight=1 / 4500, capacity=AMPLE),
}


def constant(model: str) -> list[Problem]:
    """Return the 45 settings, one slice each, for the slice model of this name."""
    return [
        pool([one_slice(1, _sla(qos, beta), Traffic((users,), (1.0,)), BOUNDS, model)], RESOURCES)
        for users, qos, beta in product(USERS, QOS_MBPS, BETA)
    ]


def _sla(qos: float, beta: float) -> Sla:
    return Sla(qos_threshold=qos, degradation_threshold=beta)
