import math

import numpy as np
import pytest
import torch

from microopt_optimizer.slice_model import calibration
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.distribution import normal
from microopt_optimizer.slice_model.network import Architecture, SliceModel

RIGHT = torch.linspace(0.0, 1.0, 10_001).double()


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_a_calibrated_model_covers_what_it_says(level):
    assert calibration.coverage(RIGHT, level) == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize(("claimed", "covered"), [(1.0, 0.9), (0.5, 0.5890), (2.0, 0.9990)])
def test_a_standard_deviation_that_is_too_small_or_large_shows_in_the_coverage(claimed, covered):
    qos = torch.distributions.Normal(0.0, 1.0).icdf(RIGHT[1:-1])
    transform = normal(torch.zeros_like(qos), torch.full_like(qos, claimed)).below(qos)
    assert calibration.coverage(transform, 0.9) == pytest.approx(covered, abs=2e-3)


def test_the_histogram_is_flat_where_the_transform_is_uniform_and_holds_both_ends():
    assert calibration.histogram(RIGHT) == pytest.approx([0.1] * 10, abs=1e-3)
    assert calibration.histogram(torch.tensor([0.0, 1.0, 1.0, 0.55]).double()) == (
        *(0.25, 0.0, 0.0, 0.0, 0.0),
        *(0.25, 0.0, 0.0, 0.0, 0.5),
    )


def test_the_distance_is_the_largest_gap_between_the_distributions():
    assert calibration.distance(RIGHT) < 1e-3
    assert calibration.distance(torch.full((10,), 0.3).double()) == pytest.approx(0.7)
    assert calibration.distance(torch.tensor([0.1, 0.2, 0.3, 0.4]).double()) == pytest.approx(0.6)


def test_the_metrics_of_a_known_network_are_those_of_its_distribution():
    network = SliceModel(Architecture(inputs=2))
    for parameter in network.parameters():
        parameter.data.zero_()
    std = math.log(2.0) + 1e-3  # softplus of 0, and the floor
    qos = np.array([0.0, 3.0, 1.0])
    data = dataset_from_arrays([1, 2, 3], [[1], [2], [3]], qos, names=["a"], units=["x"])
    metrics = calibration.evaluate(network, data)
    assert metrics.rows == 3
    assert metrics.mse == pytest.approx(10.0 / 3.0)
    assert metrics.mae == pytest.approx(4.0 / 3.0)
    density = -0.5 * (qos / std) ** 2 - math.log(std * math.sqrt(2.0 * math.pi))
    assert metrics.nll == pytest.approx(-density.mean())
    # 1 is 1.44 standard deviations from 0, and 3 more than 4.
    assert (metrics.coverage_50, metrics.coverage_80, metrics.coverage_90) == pytest.approx((1 / 3, 1 / 3, 2 / 3))
    assert sum(metrics.pit) == pytest.approx(1.0)
