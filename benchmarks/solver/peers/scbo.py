"""SCBO (Eriksson and Poloczek, 2021) with BoTorch: Thompson sampling in a trust region, under a constraint."""

import math
import warnings
from dataclasses import dataclass, field

import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.generation.sampling import ConstrainedMaxPosteriorSampling
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from gpytorch.constraints import Interval
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.utils.warnings import GPInputWarning, NumericalWarning
from torch import Tensor

from solver.instance import Instance
from solver.peers.search import Search, scattered

EVALUATIONS = 200
_FIRST, _BATCH = 16, 8
_CANDIDATES = 1_000
_CLIP = 1e-6
SETTINGS = (
    f"BoTorch; {EVALUATIONS} evaluations of E (40 more for each resource after the second), {_FIRST} Sobol points "
    f"first, then batches of {_BATCH} chosen among {_CANDIDATES} candidates. The cost is known exactly, so only "
    "the constraint has a Gaussian process, of probit(E); trust region of the paper: begins at 0.8, doubles after "
    "2 successes, halves after max(1, K/4) failures, never below 0.5^12. "
    "Tried beside it: 60 and 120 evaluations."
)


@dataclass
class _Region:
    """A trust region's length and what changes it."""

    dimension: int
    length: float = 0.8
    failures: int = 0
    successes: int = 0
    shortest: float = field(default=0.5**12)

    def update(self, improved: bool) -> None:
        self.successes, self.failures = (self.successes + 1, 0) if improved else (0, self.failures + 1)
        if self.successes == 2:
            self.length, self.successes = min(2.0 * self.length, 1.6), 0
        elif self.failures == max(1, math.ceil(self.dimension / 4)):
            self.length, self.failures = max(0.5 * self.length, self.shortest), 0


def cheapest(instance: Instance, seed: int, evaluations: int | None = None) -> Tensor | None:
    """Return the cheapest feasible point evaluated."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        for category in (BotorchWarning, GPInputWarning, NumericalWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        torch.manual_seed(seed)
        return _search(instance, seed, evaluations or EVALUATIONS + 40 * (instance.dimension - 2))


def _search(instance: Instance, seed: int, evaluations: int) -> Tensor | None:
    found, region = Search(instance), _Region(instance.dimension)
    points = scattered(instance.dimension, _FIRST, seed)
    _, excess = found.look(points)
    level = _level(instance, excess)
    while found.evaluations < evaluations:
        constraint = _fitted(points, level)
        before = found.cost
        asked = _asked(instance, region, _centre(instance, points, level), constraint)
        _, excess = found.look(asked)
        points, level = torch.cat([points, asked]), torch.cat([level, _level(instance, excess)])
        region.update(found.cost < before - 1e-3 * abs(before) if math.isfinite(before) else True)
    return found.best


def _level(instance: Instance, excess: Tensor) -> Tensor:
    """Return probit(E) − probit(β) [N, 1]: not positive where feasible, and smooth."""
    probit = torch.special.ndtri((excess + instance.threshold).clamp(_CLIP, 1.0 - _CLIP))
    return (probit - torch.special.ndtri(torch.tensor(instance.threshold, dtype=probit.dtype))).unsqueeze(1)


def _centre(instance: Instance, points: Tensor, level: Tensor) -> Tensor:
    """Return the cheapest feasible point, or the one nearest to being feasible."""
    held = level.squeeze(1) <= 0.0
    if bool(held.any()):
        return points[torch.where(held, instance.cost(points), torch.inf).argmin()]
    return points[level.squeeze(1).argmin()]


def _fitted(points: Tensor, level: Tensor) -> SingleTaskGP:
    kernel = ScaleKernel(
        MaternKernel(nu=2.5, ard_num_dims=points.shape[1], lengthscale_constraint=Interval(0.005, 4.0))
    )
    likelihood = GaussianLikelihood(noise_constraint=Interval(1e-6, 1e-3))
    # Standardised around the edge, so that zero stays the threshold.
    model = SingleTaskGP(
        points, level / level.std(), covar_module=kernel, likelihood=likelihood, outcome_transform=None
    )
    try:
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    except ModelFittingError:
        model.eval()  # as it begins: with points as close together as they are by now, that is good enough
    return model


def _asked(instance: Instance, region: _Region, centre: Tensor, constraint: SingleTaskGP) -> Tensor:
    """Return a batch of points [n, K] by constrained Thompson sampling within the region."""
    low = (centre - 0.5 * region.length).clamp(0.0, 1.0)
    high = (centre + 0.5 * region.length).clamp(0.0, 1.0)
    sobol = torch.quasirandom.SobolEngine(instance.dimension, scramble=True)
    moved = low + (high - low) * sobol.draw(_CANDIDATES, dtype=torch.float64)
    chosen = torch.rand_like(moved) <= min(1.0, 20.0 / instance.dimension)
    candidates = torch.where(chosen, moved, centre)
    cheap = GenericDeterministicModel(lambda x: -instance.cost(x).unsqueeze(-1))
    sampling = ConstrainedMaxPosteriorSampling(
        model=cheap, constraint_model=ModelListGP(constraint), replacement=False
    )
    with torch.no_grad():
        return sampling(candidates, num_samples=_BATCH)
