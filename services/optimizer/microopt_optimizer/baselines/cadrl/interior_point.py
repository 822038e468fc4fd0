"""Interior-point policy optimisation on top of PPO, the clock, and the best allocation on the way."""

import math
from collections.abc import Callable
from typing import NamedTuple

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from microopt_optimizer.baselines.cadrl.environment import Array, SliceEnvironment
from microopt_optimizer.baselines.cadrl.settings import CadrlSettings

_MARGIN = 1e-9
_LEAST_GAP = 1e-6
_PATIENCE = 20


class Found(NamedTuple):
    """An allocation [K] in the resources' own units, its cost as a share of the span's, and its E(β)."""

    allocation: tuple[float, ...]
    spending: float
    degradation: float


def advantages_with_barrier(rewards: Array, costs: Array, threshold: float, t: float) -> Array:
    """Return the rewards' advantages [N] with the gradient of the barrier φ = log(β_thresh − J_C) / t in them.

    φ's gradient is −∇J_C / (t (β_thresh − J_C)), and PPO's estimate of ∇J_C is linear in the constraint's
    advantages: adding them with that factor adds φ to the objective (Liu, Ding, Liu: IPO, 2020). J_C is the mean
    of `costs` [N]; where it is not below the threshold φ is undefined, and only the constraint counts.
    """
    expected = float(costs.mean())
    above = costs - expected
    if expected >= threshold:
        return -above
    return rewards - above / (t * max(threshold - expected, _LEAST_GAP))


class InteriorPoint(BaseCallback):
    """Puts the barrier into PPO's advantages before each update, and tries the policy's mean after each.

    `best` is the cheapest strictly feasible mean or, as long as there is none, the least degraded one. Training
    ends early when `expired` says so, or when the constraint is broken alike wherever the policy goes.
    """

    def __init__(
        self, environment: SliceEnvironment, settings: CadrlSettings, expired: Callable[[], bool]
    ) -> None:
        super().__init__()
        self.best = Found((), math.inf, math.inf)
        self._environment = environment
        self._settings = settings
        self._expired = expired
        self._flat = 0
        threshold = environment.task.degradation_threshold
        # The answer is judged by E(β) in another batch, which may round differently.
        self._target = threshold - min(_MARGIN, 1e-3 * threshold)

    def _on_rollout_start(self) -> None:
        self._try_mean()

    def _on_training_end(self) -> None:
        self._try_mean()

    def _on_step(self) -> bool:
        costs = self._environment.costs
        flat = bool(costs.min() == costs.max() > self._target)
        self._flat = self._flat + 1 if flat else 0
        return self._flat < _PATIENCE and not self._expired()

    def _on_rollout_end(self) -> None:
        if not isinstance(self.model, PPO):
            raise TypeError(f"{type(self.model).__name__} keeps no advantages; train a PPO")
        settings, left = self._settings, self.model._current_progress_remaining
        t = settings.last_t * (settings.first_t / settings.last_t) ** left
        self.model.ent_coef = settings.entropy * left
        advantages = self.model.rollout_buffer.advantages
        advantages[0] = advantages_with_barrier(advantages[0], self._environment.costs, self._target, t)

    def _try_mean(self) -> None:
        action, _ = self.model.predict(self._environment.observation, deterministic=True)
        task = self._environment.task
        allocation = task.allocations(action)
        found = Found(
            tuple(allocation[0].tolist()), float(task.spending(allocation)), float(task.degradation(allocation))
        )
        if self._rank(found) < self._rank(self.best):
            self.best = found

    def _rank(self, found: Found) -> tuple[bool, float]:
        met = found.degradation <= self._target
        return (not met, found.spending if met else found.degradation)
