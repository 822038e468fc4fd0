"""A sweep of the emulated slice: measurements to train a slice model on, where there are none."""

import csv
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from microopt_testbed.surface import QosSurface

USERS: Final = (1, 2, 3, 4, 5)
GNB_CPU_MILLICORES: Final = (500, 1000, 1500, 2000, 2500, 3000, 3500, 4000)
TRANSPORT_BANDWIDTH_MBPS: Final = (5, 10, 15, 20, 25, 30, 35, 40)
SAMPLES: Final = 60


def sweep(*, samples: int = SAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Return rows (n, 4) of users, millicores, Mbit/s and QoS in Mbit/s: the grid of paper §V-D."""
    grid = np.array(np.meshgrid(USERS, GNB_CPU_MILLICORES, TRANSPORT_BANDWIDTH_MBPS, indexing="ij"), dtype=float)
    points = np.repeat(grid.reshape(3, -1), samples, axis=1)
    qos = QosSurface.shipped().sample(points[0], points[1], points[2], np.random.default_rng(seed))
    return np.column_stack([*points, qos])


def write_csv(path: Path, rows: NDArray[np.float64]) -> None:
    """Write a sweep with the columns of the authors' data set; it has no times, for it has no transients."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["n_users", "cpu", "bw", "qos"])
        writer.writerows([[f"{value:.6g}" for value in row] for row in rows])
