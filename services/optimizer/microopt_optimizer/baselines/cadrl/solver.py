"""The optimizers `cadrl` and `cadrl-plus`."""

from abc import abstractmethod

import torch
from torch import Tensor

from microopt.messages import SliceProblem, Traffic
from microopt_optimizer.baselines.cadrl.environment import SliceTask
from microopt_optimizer.baselines.cadrl.interior_point import Found
from microopt_optimizer.baselines.cadrl.settings import CadrlSettings
from microopt_optimizer.baselines.cadrl.training import train
from microopt_optimizer.baselines.independent import IndependentSolver, Wanted
from microopt_optimizer.solver.base import Clock
from microopt_optimizer.solver.pool import Pool


class _TrainedSolver(IndependentSolver):
    """Trains a policy from scratch for every slice and allocates the best of the means that it had.

    That is the cheapest mean whose E(β), at the traffic trained for, is within the threshold; if none is, the
    least degraded. Training takes seconds a slice; unless the deadline ends it, the same problem gets the same
    answer.
    """

    def __init__(self, settings: CadrlSettings | None = None) -> None:
        self._settings = settings or CadrlSettings()

    @abstractmethod
    def traffic(self, forecast: Traffic) -> Traffic:
        """Return the traffic to train for."""

    def wanted(self, pool: Pool, one: SliceProblem, clock: Clock) -> Wanted:
        """Return the trained allocation, and why where it does not keep the SLA at the forecast's traffic."""
        traffic = self.traffic(one.traffic)
        found = train(_task(pool, one, traffic), self._settings, clock)
        reached = float(_task(pool, one, one.traffic).degradation(_tensor([found.allocation])))
        names = pool.models[one.model].header.resource_names
        allocation = dict(zip(names, found.allocation, strict=True))
        if reached <= one.sla.degradation_threshold:
            return Wanted(allocation)
        return Wanted(allocation, _shortfall(one, traffic, found, reached))


class CadrlSolver(_TrainedSolver):
    """CaDRL: trains for the largest number of users that the forecast thinks possible, as if it were constant."""

    name = "cadrl"

    def traffic(self, forecast: Traffic) -> Traffic:
        """Return the forecast's peak as constant traffic."""
        possible = [users for users, weight in zip(forecast.users, forecast.weights, strict=True) if weight > 0.0]
        return Traffic((max(possible),), (1.0,))


class CadrlPlusSolver(_TrainedSolver):
    """CaDRL⁺: trains for the forecast's distribution once it is known."""

    name = "cadrl-plus"

    def traffic(self, forecast: Traffic) -> Traffic:
        """Return the forecast's distribution."""
        return forecast


def _shortfall(one: SliceProblem, traffic: Traffic, found: Found, reached: float) -> str:
    threshold = one.sla.degradation_threshold
    if found.degradation > threshold:
        return (
            f"slice {one.slice}: training for up to {max(traffic.users):g} users found nothing within its bounds "
            f"that keeps degradation within {threshold:g}; it gets the least degraded allocation found, "
            f"{found.degradation:.4g}"
        )
    return (
        f"slice {one.slice}: it is degraded to at most {threshold:g} at {max(traffic.users):g} users, "
        f"but to {reached:.4g} at the forecast's: model {one.model} is not monotone in the users"
    )


def _task(pool: Pool, one: SliceProblem, traffic: Traffic) -> SliceTask:
    model = pool.models[one.model]
    names = model.header.resource_names
    return SliceTask(
        model=model,
        higher_is_better=one.sla.higher_is_better,
        floors=_tensor([one.bounds[name].floor for name in names]),
        ceilings=_tensor([one.bounds[name].ceiling for name in names]),
        eta=_tensor([pool.problem.resources[name].weight for name in names]),
        users=_tensor(traffic.users),
        weights=_tensor(traffic.weights),
        qos_threshold=one.sla.qos_threshold,
        degradation_threshold=one.sla.degradation_threshold,
    )


def _tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
