"""How CaDRL trains."""

from typing import Annotated

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0.0)]


class CadrlSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PPO's and the barrier's parameters; the defaults are tuned, see docs/baselines.md.

    In every iteration each of `environments` tries one allocation; `epochs` passes over them follow, in
    `minibatches` parts, with clipped gradients. The policy and the critic have `layers` of `width` units. Learning
    rate and `entropy` bonus fall linearly to 0, and the barrier's `t` grows geometrically from `first_t` to
    `last_t` (the reward is the cost as a share of the bounds' span). `start` is the first policy's mean and
    `start_std` its standard deviation, both in logits of the share of each resource's span.
    """

    iterations: Annotated[int, Meta(ge=1)] = 600
    environments: Annotated[int, Meta(ge=2)] = 256
    epochs: Annotated[int, Meta(ge=1)] = 5
    minibatches: Annotated[int, Meta(ge=1)] = 1
    learning_rate: Positive = 0.02
    clip_range: Positive = 0.2
    max_gradient: Positive = 0.5
    entropy: Annotated[float, Meta(ge=0.0)] = 0.01
    width: Annotated[int, Meta(ge=1)] = 16
    layers: Annotated[int, Meta(ge=0)] = 1
    start: float = 0.0
    start_std: Positive = 0.8
    first_t: Positive = 10.0
    last_t: Positive = 1e4
    seed: Annotated[int, Meta(ge=0)] = 0
