"""What the paper prints, to stand beside what is measured here."""

from typing import Final, NamedTuple


class Printed(NamedTuple):
    """A row of table I."""

    users: int
    cpu_millicores: float
    bandwidth_mbps: float
    degradation: float


class Fit(NamedTuple):
    """How well a slice model predicts the rows of one part of the data."""

    nll: float
    mse: float
    mae: float


TABLE_1: Final = {
    "atlas": (
        Printed(1, 1167.60, 10.03, 0.06),
        Printed(2, 1648.72, 14.84, 0.07),
        Printed(3, 2452.79, 29.79, 0.00),
        Printed(4, 2589.30, 30.89, 0.05),
        Printed(5, 2934.51, 42.11, 0.07),
    ),
    "cadrl": (
        Printed(1, 1632.14, 13.27, 0.00),
        Printed(2, 2011.99, 19.79, 0.00),
        Printed(3, 2574.88, 33.23, 0.00),
        Printed(4, 3089.35, 47.89, 0.00),
        Printed(5, 3890.13, 50.00, 0.00),
    ),
    "microopt": (
        Printed(1, 993.93, 11.73, 0.10),
        Printed(2, 1463.44, 15.77, 0.10),
        Printed(3, 2140.87, 22.22, 0.10),
        Printed(4, 2534.28, 28.94, 0.10),
        Printed(5, 2945.72, 39.20, 0.10),
    ),
    "peak": (Printed(5, 3123.80, 42.20, 0.01),),
}
"""Table I: constant traffic, q_thresh 5.0, β_thresh 0.1."""

FIT: Final = {"train": Fit(1.53, 1.58, 0.69), "validation": Fit(1.72, 1.24, 0.62), "test": Fit(1.67, 0.91, 0.54)}
"""§VI-A1; L_QoS is printed as a mean log-likelihood, −1.53, which is an NLL of 1.53."""

FIT_TESTBED: Final = Fit(1.53, 1.14, 0.72)
"""§VI-D: rows gathered while the solutions were in force."""

CONSTANT_COST: Final = {"microopt": 0.719, "atlas": 0.778, "cadrl": 0.920, "peak": 1.534}
"""§VI-B: mean normalised allocation over 3 × 3 thresholds and 1 to 5 users."""

CONSTANT_DECREASE: Final = {"atlas": 0.0765, "cadrl": 0.2190, "peak": 0.5314}
"""§VI-B: by how much less MicroOpt allocates."""

DYNAMIC_DECREASE: Final = {
    "atlas-plus": 0.0423,
    "cadrl-plus": 0.1423,
    "atlas": 0.1460,
    "cadrl": 0.3161,
    "peak": 0.2074,
}
"""§VI-B: by how much less MicroOpt allocates over the ten distributions."""

ZERO_SIGMA_DEGRADATION: Final = 0.49
"""§VI-C: E(β) of MicroOpt-0σ."""

ABOVE_THRESHOLD: Final = ((0.1, 3.0), (0.2, 5.0))
"""§VI-D: the (β_thresh, q_thresh) that ended slightly above their threshold on the paper's testbed."""
