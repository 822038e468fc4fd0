"""Training one policy for one slice, without leaving a trace in the process's random generators."""

import math
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from microopt_optimizer.baselines.cadrl.environment import SliceEnvironment, SliceTask
from microopt_optimizer.baselines.cadrl.interior_point import Found, InteriorPoint
from microopt_optimizer.baselines.cadrl.settings import CadrlSettings
from microopt_optimizer.solver.base import Clock

_generators = threading.Lock()


@contextmanager
def borrowed_generators() -> Iterator[None]:
    """Hand the global random generators, which PPO seeds and draws from, to one training; put them back after."""
    # A CUDA generator that nobody has used yet needs no keeping.
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if used else ()
    with _generators, torch.random.fork_rng(devices):
        python, numpy = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def train(task: SliceTask, settings: CadrlSettings, clock: Clock) -> Found:
    """Train a policy and return the best of its means; the same each time unless `clock` expires."""
    environment = SliceEnvironment(task, settings.environments)
    interior_point = InteriorPoint(environment, settings, lambda: clock.expired)
    with borrowed_generators():
        _ppo(environment, settings).learn(
            settings.iterations * settings.environments, interior_point, log_interval=settings.iterations + 1
        )
    return interior_point.best


def _ppo(environment: SliceEnvironment, settings: CadrlSettings) -> PPO:
    ppo = PPO(
        "MlpPolicy",
        environment,
        learning_rate=lambda left: settings.learning_rate * left,
        n_steps=1,
        batch_size=max(2, settings.environments // settings.minibatches),
        n_epochs=settings.epochs,
        gamma=0.0,
        clip_range=settings.clip_range,
        max_grad_norm=settings.max_gradient,
        policy_kwargs={
            "net_arch": [settings.width] * settings.layers,
            "log_std_init": math.log(settings.start_std),
        },
        seed=settings.seed,
        device="cpu",
    )
    torch.nn.init.constant_(ppo.policy.get_parameter("action_net.bias"), settings.start)
    # A logger of its own: the default one makes a folder.
    ppo.set_logger(Logger(folder=None, output_formats=[]))
    return ppo
