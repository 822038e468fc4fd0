"""A Bayesian neural network by variational inference, on Pyro: what Atlas learns the QoS degradation with."""

import itertools
import math
from typing import Annotated, Literal

import pyro
import torch
from msgspec import Meta, Struct
from pyro import distributions
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal
from pyro.optim import Adam  # type: ignore[attr-defined]
from pyro.params.param_store import ParamStoreDict
from torch import Tensor

from microopt_optimizer.solver.base import Clock

_SITE = "weights"
_Positive = Annotated[float, Meta(gt=0.0)]
_Count = Annotated[int, Meta(ge=1)]


class NetworkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape, prior, noise and training of a Bayesian neural network.

    Weights have normal priors of standard deviation `prior` over the square root of a layer's inputs. `posterior`
    is independent normal (`diagonal`) or `low_rank`, of standard deviation `first_std` to begin with.
    """

    width: _Count = 32
    depth: _Count = 2
    prior: _Positive = 4.0
    noise: _Positive = 0.3
    posterior: Literal["diagonal", "low_rank"] = "diagonal"
    first_std: _Positive = 0.02
    learning_rate: _Positive = 0.01


class BayesianNetwork:
    """Learns a function of K inputs from examples, and draws functions from what it believes.

    Everything random comes from torch's global generator: callers fork and seed it. Pyro's global parameters are
    neither read nor changed.
    """

    def __init__(self, inputs: int, settings: NetworkSettings) -> None:
        self._settings = settings
        widths = [inputs, *[settings.width] * settings.depth, 1]
        self._shapes = [(before + 1, after) for before, after in itertools.pairwise(widths)]
        scales = [
            torch.full((rows, columns), settings.prior / math.sqrt(rows)).flatten()
            for rows, columns in self._shapes
        ]
        self._scale = torch.cat(scales)
        self._start = torch.randn(len(self._scale)) * self._scale.clamp(max=1.0)
        kind = AutoDiagonalNormal if settings.posterior == "diagonal" else AutoLowRankMultivariateNormal
        self._guide = kind(
            self._model, init_loc_fn=lambda site: self._start.clone(), init_scale=settings.first_std
        )
        adam, loss = Adam({"lr": settings.learning_rate}), Trace_ELBO()  # type: ignore[no-untyped-call]
        self._svi = SVI(self._model, self._guide, adam, loss)  # type: ignore[no-untyped-call]
        self._state = ParamStoreDict().get_state()

    def learn(self, inputs: Tensor, values: Tensor, steps: int, clock: Clock) -> None:
        """Take gradient steps on the evidence lower bound of examples [n, K] and [n], until `clock` expires."""
        inputs, values = inputs.float(), values.float()
        with pyro.get_param_store().scope(self._state):
            for _ in range(steps):
                if clock.expired:
                    break
                self._svi.step(inputs, values)  # type: ignore[no-untyped-call]

    def draw(self, count: int) -> Tensor:
        """Return the weights of `count` functions from the posterior, [count, weights]."""
        with pyro.get_param_store().scope(self._state), torch.no_grad():
            posterior = self._guide.get_posterior()  # type: ignore[no-untyped-call]
            drawn: Tensor = posterior.sample((count,))
            return drawn

    def values(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Return what functions [T, weights] make of inputs [n, K] or [T, n, K], as [T, n]."""
        hidden = (2.0 * inputs.float() - 1.0).expand(len(weights), *inputs.shape[-2:])
        sizes = [rows * columns for rows, columns in self._shapes]
        layers = torch.split(weights, sizes, dim=-1)
        for index, (layer, (rows, columns)) in enumerate(zip(layers, self._shapes, strict=True)):
            matrix = layer.view(len(weights), rows, columns)
            hidden = torch.baddbmm(matrix[:, :1], hidden, matrix[:, 1:])
            if index < len(layers) - 1:
                hidden = torch.tanh(hidden)
        return hidden.squeeze(-1)

    def _model(self, inputs: Tensor, values: Tensor) -> None:
        prior = distributions.Normal(torch.zeros_like(self._scale), self._scale)
        weights = pyro.sample(_SITE, distributions.Independent(prior, 1))
        predicted = self.values(weights.unsqueeze(0), inputs).squeeze(0)
        likelihood = distributions.Normal(predicted, self._settings.noise)
        pyro.sample("values", distributions.Independent(likelihood, 1), obs=values)
