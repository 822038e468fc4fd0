"""One slice as a reinforcement learner sees it: an action is an allocation, an episode one interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
from torch import Tensor

from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.solver.base import QosModel

Array = npt.NDArray[Any]

_FARTHEST = 10.0
"""The logit of a share of the span that is as good as none or all of it: 0.00005 from it."""


@dataclass(frozen=True)
class SliceTask:
    """What a policy is trained for: one slice with J atoms of traffic and K resources, in float64.

    `floors`, `ceilings` and `eta` (cost per unit) have shape [K], `users` and `weights` [J].
    """

    model: QosModel
    higher_is_better: bool
    floors: Tensor
    ceilings: Tensor
    eta: Tensor
    users: Tensor
    weights: Tensor
    qos_threshold: float
    degradation_threshold: float

    def allocations(self, actions: Array) -> Tensor:
        """Return the allocations [N, K] that actions [N, K] stand for: the logits of shares of the span.

        Clipped shares would leave a policy that has gone beyond a bound without a slope to come back on.
        """
        share = torch.sigmoid(torch.from_numpy(actions).double())
        return torch.clamp(self.floors + share * (self.ceilings - self.floors), self.floors, self.ceilings)

    def degradation(self, allocations: Tensor) -> Tensor:
        """Return E(β) [N] at allocations [N, K]; 1 where the model says nothing."""
        with torch.no_grad():
            threshold = torch.tensor(self.qos_threshold, dtype=torch.float64)
            found = expected_degradation(
                self.model, self.users, self.weights, allocations, threshold, self.higher_is_better
            )
        return torch.nan_to_num(found, nan=1.0)

    def spending(self, allocations: Tensor) -> Tensor:
        """Return the cost [N] above the floors' as a share of the span's; 0 where nothing can be spent."""
        span = float((self.ceilings - self.floors) @ self.eta)
        above = (allocations - self.floors) @ self.eta
        return above / span if span > 0.0 else torch.zeros_like(above)


class SliceEnvironment(VecEnv):
    """N copies of a slice whose episodes last one step: reward −η·r (scaled), constraint cost E(β).

    Allocations hold for a whole interval and do not change its traffic, so that no step depends on the one before;
    all copies are one batch of the slice model. E(β) is the closed form: what a policy would learn from sampled
    QoS, without the noise. `costs` [N] are the constraint costs of the last step.
    """

    def __init__(self, task: SliceTask, copies: int) -> None:
        count = task.floors.shape[0]
        super().__init__(
            copies,
            spaces.Box(0.0, 1.0, (1,), dtype=np.float32),
            spaces.Box(-_FARTHEST, _FARTHEST, (count,), dtype=np.float32),
        )
        self.task = task
        self.costs: npt.NDArray[np.float64] = np.zeros(copies)
        self._actions: Array = np.zeros((copies, count), dtype=np.float32)
        self._observations = np.ones((copies, 1), dtype=np.float32)
        self._ends = np.ones(copies, dtype=np.bool_)
        self._infos: list[dict[str, Any]] = [{} for _ in range(copies)]

    @property
    def observation(self) -> Array:
        """Return what one copy observes, [1, 1]."""
        return self._observations[:1]

    def reset(self) -> Array:
        """Return the observations: the same in every state, as the problem is fixed while a policy is trained."""
        return self._observations

    def step_async(self, actions: Array) -> None:
        """Take note of the actions."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Return observations, rewards, that every episode has ended, and nothing else."""
        allocations = self.task.allocations(self._actions)
        self.costs = self.task.degradation(allocations).numpy()
        rewards = -self.task.spending(allocations).numpy().astype(np.float32)
        return self._observations, rewards, self._ends, self._infos

    def close(self) -> None:
        """Do nothing: there is nothing open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute as every copy has it; nothing is ever rendered."""
        value = None if attr_name == "render_mode" else getattr(self, attr_name)
        return [value] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: all copies are one."""
        raise NotImplementedError(f"{attr_name} cannot be set: all copies are one slice")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuse: the copies have no methods of their own."""
        raise NotImplementedError(f"{method_name} cannot be called: all copies are one slice")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Return that no copy is wrapped."""
        return [False] * self._count(indices)

    def _count(self, indices: VecEnvIndices) -> int:
        if indices is None:
            return self.num_envs
        return len(indices) if isinstance(indices, Sequence) else 1
