"""How well a slice model predicts: errors of its mean, and whether its distribution is as wide as it says."""

from typing import Final

import torch
from torch import Tensor

from microopt_optimizer.slice_model.dataset import Dataset
from microopt_optimizer.slice_model.distribution import QosDistribution
from microopt_optimizer.slice_model.model_file import Metrics
from microopt_optimizer.slice_model.network import SliceModel

LEVELS: Final = (0.5, 0.8, 0.9)
BINS: Final = 10


def evaluate(network: SliceModel, dataset: Dataset) -> Metrics:
    """Return NLL, MSE, MAE and calibration of a network on a dataset with rows, in float64."""
    network.double().eval()
    users, resources, qos = (torch.tensor(values) for values in (dataset.users, dataset.resources, dataset.qos))
    with torch.no_grad():
        predicted: QosDistribution = network(users, resources)
    error = predicted.expectation - qos
    transform = predicted.below(qos)
    half, four_fifths, nine_tenths = (coverage(transform, level) for level in LEVELS)
    return Metrics(
        rows=len(dataset),
        nll=-float(predicted.log_density(qos).mean()),
        mse=float((error**2).mean()),
        mae=float(error.abs().mean()),
        coverage_50=half,
        coverage_80=four_fifths,
        coverage_90=nine_tenths,
        pit=histogram(transform),
        pit_distance=distance(transform),
    )


def coverage(transform: Tensor, level: float) -> float:
    """Return the share of values within their central intervals of probability `level`.

    `transform` [N] is the probability integral transform, P(QoS <= measured), of each measured value: it lies
    within (1 ± level) / 2 exactly where the value lies between the quantiles of these probabilities.
    """
    within = (transform >= 0.5 * (1.0 - level)) & (transform <= 0.5 * (1.0 + level))
    return float(within.double().mean())


def histogram(transform: Tensor) -> tuple[float, ...]:
    """Return the shares of the transforms [N] in ten equal bins of 0 to 1; all are 0.1 for a calibrated model."""
    place = (transform * BINS).long().clamp(max=BINS - 1)
    return tuple((torch.bincount(place, minlength=BINS).double() / len(transform)).tolist())


def distance(transform: Tensor) -> float:
    """Return the largest gap between the transforms' distribution and the uniform one (Kolmogorov-Smirnov)."""
    ordered = transform.sort().values
    rank = torch.arange(len(ordered) + 1, dtype=ordered.dtype) / len(ordered)
    return float(torch.maximum(rank[1:] - ordered, ordered - rank[:-1]).max())
