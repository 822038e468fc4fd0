"""The settings of the paper's experiments, and the sizes in which they can be run."""

from itertools import product
from typing import Final

from msgspec import Struct

from microopt.specs import Bounds
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH

WEIGHTS: Final = {GNB_CPU: 1 / 4500, TRANSPORT_BANDWIDTH: 1 / 50}
"""η of §V-D, per millicore and per Mbit/s."""
UNITS: Final = {GNB_CPU: "millicores", TRANSPORT_BANDWIDTH: "Mbit/s"}
BOUNDS: Final = {GNB_CPU: Bounds(500.0, 4500.0), TRANSPORT_BANDWIDTH: Bounds(5.0, 50.0)}
"""The ceilings are printed (§V-D); the floors are the least that was measured."""

TABLE_QOS: Final = 5.0
TABLE_BETA: Final = 0.1
"""Thresholds of table I and of figures 7 and 8."""

ORACLE: Final = "oracle"
MICROOPT: Final = "microopt"
BASELINES: Final = ("atlas", "atlas-plus", "cadrl", "cadrl-plus", "peak")
SIGMA_VARIANTS: Final = ("microopt-0sigma", "microopt-2sigma")
SOLVERS: Final = (MICROOPT, "microopt-paper", *SIGMA_VARIANTS, *BASELINES)


class Setting(Struct, frozen=True):
    """What one slice needs: traffic as weighted atoms, and thresholds for QoS (Mbit/s) and degradation."""

    users: tuple[float, ...]
    weights: tuple[float, ...]
    qos_threshold: float
    degradation_threshold: float

    @property
    def mean_users(self) -> float:
        """Return the expected number of users."""
        return sum(users * weight for users, weight in zip(self.users, self.weights, strict=True))

    def __str__(self) -> str:
        return f"{self.mean_users:.3g} users, q {self.qos_threshold:g}, β {self.degradation_threshold:g}"


class Scale(Struct, frozen=True, kw_only=True):
    """How much is computed. The default is the paper's extent; `QUICK` only shows that everything runs."""

    users: tuple[int, ...] = (1, 2, 3, 4, 5)
    qos_thresholds: tuple[float, ...] = (3.0, 4.0, 5.0)
    degradation_thresholds: tuple[float, ...] = (0.1, 0.2, 0.3)
    seeds: int = 5
    epochs_share: float = 1.0
    sweep_samples: int = 60
    grid_points: int = 1000
    slots: int = 36_000
    solvers: tuple[str, ...] = SOLVERS
    is_quick: bool = False


FULL: Final = Scale()
QUICK: Final = Scale(
    users=(1, 3),
    qos_thresholds=(3.0, 5.0),
    degradation_thresholds=(0.1, 0.3),
    seeds=2,
    epochs_share=0.01,
    sweep_samples=10,
    grid_points=60,
    slots=500,
    solvers=("microopt", "peak"),
    is_quick=True,
)


def constant(scale: Scale) -> list[Setting]:
    """Return the settings of constant traffic (§VI-B): users × q_thresh × β_thresh."""
    each = product(scale.users, scale.qos_thresholds, scale.degradation_thresholds)
    return [Setting((float(users),), (1.0,), qos, beta) for users, qos, beta in each]


def table_1(scale: Scale) -> list[Setting]:
    """Return the settings of table I."""
    return [Setting((float(users),), (1.0,), TABLE_QOS, TABLE_BETA) for users in scale.users]
