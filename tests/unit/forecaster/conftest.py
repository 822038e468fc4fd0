import numpy as np
import pytest

from microopt_forecaster.grid import Grid
from microopt_forecaster.steps import Means, Steps


@pytest.fixture
def hours() -> Grid:
    """A day of hours with steps of ten minutes."""
    return Grid(600.0, 3600.0, 86_400.0)


@pytest.fixture
def make_steps(hours):
    """Build steps of given means from the epoch on."""

    def build(means, grid=hours, offset=0.01) -> Steps:
        return Steps(Means(grid, 0, np.asarray(means, dtype=np.float64)), offset)

    return build


@pytest.fixture
def daily():
    """Build `days` of ten-minute means with a daily shape, weekends at half, and noise of a given size.

    `memory` is the noise's correlation from one hour to the next.
    """

    def build(days=28, noise=0.1, scale=100.0, seed=1, memory=0.0):
        rng = np.random.default_rng(seed)
        hour = np.arange(days * 144) / 6.0
        shape = 1.2 + np.sin(2 * np.pi * (hour % 24 - 8) / 24)
        week = np.where(hour // 24 % 7 >= 5, 0.5, 1.0)
        slow = rng.normal(0.0, noise, days * 24)
        for n in range(1, len(slow)):
            slow[n] = memory * slow[n - 1] + np.sqrt(1.0 - memory**2) * slow[n]
        slow = np.repeat(slow, 6)
        return scale * shape * week * np.exp(slow + rng.normal(0.0, noise / 3, days * 144))

    return build
