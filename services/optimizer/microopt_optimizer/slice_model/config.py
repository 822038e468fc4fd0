"""How a slice model is trained, and the two ways that ship."""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from microopt_optimizer.slice_model.dataset import Dataset, Split
from microopt_optimizer.slice_model.network import Activation, Architecture, Monotone, even_width

Share = Annotated[float, Meta(ge=0.0, lt=1.0)]


class TrainingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train, and which network; the defaults are the way that ships."""

    epochs: Annotated[int, Meta(ge=1)] = 100
    batch_size: Annotated[int, Meta(ge=2)] = 512
    learning_rate: Annotated[float, Meta(gt=0.0)] = 1e-2
    schedule: Literal["one_cycle", "step"] = "one_cycle"
    """`step`: times `drop` after half of the epochs, as in the paper. `one_cycle`: up to `learning_rate` over the
    first tenth, then down as a cosine."""
    drop: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1
    teachers: Annotated[int, Meta(ge=0, le=64)] = 8
    """Networks of an ensemble that is trained first, on the rows, for as many epochs; the network then learns from
    draws of the ensemble's distribution, also between the cells of a grid. 0: it learns from the rows."""
    input_noise: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.15
    """Normal noise on users and resources where rows are learnt from, in the inputs' standard deviations: between
    the cells of a grid the network goes straight instead of in waves. 0: none."""
    spread_epochs: Annotated[int, Meta(ge=0)] = 40
    """Epochs afterwards that train only standard deviations and mixture weights, on the inputs as measured: with
    noise on the inputs they come out too large."""
    teachers_share: Share = 0.05
    """How much of these epochs' rows are the teachers', for resources from anywhere: between the cells of a grid
    nobody knows the QoS as well as in them."""
    patience: Annotated[int, Meta(ge=1)] | None = 40
    """Stop after so many epochs without a better NLL on the validation rows, and take the best weights."""
    validation_share: Share = 0.2
    split: Split = "time_blocks"
    """What is held out for validation: blocks of successive rows of each cell, or whole cells."""
    seed: Annotated[int, Meta(ge=0)] = 0
    scale_qos: bool = True
    """Standardise the QoS; without it the network has to learn the QoS's unit."""
    normalise: Literal["rows", "batch"] = "rows"
    """Inputs by the statistics of all training rows, or by each batch's own, as batch norm does in training."""

    width: Annotated[int, Meta(ge=1, le=1024)] = 16
    depth: Annotated[int, Meta(ge=1, le=16)] = 3
    activation: Activation = "relu"
    components: Annotated[int, Meta(ge=1, le=32)] = 2
    members: Annotated[int, Meta(ge=1, le=64)] = 1
    per_user: bool = False
    monotone: bool = False
    """More of a resource never makes the QoS worse."""

    def __post_init__(self) -> None:
        even_width(self.activation, self.width)

    def shortened(self, epochs: int) -> "TrainingConfig":
        """Return the same with another number of epochs, and as many for the spread in proportion."""
        return replace(self, epochs=epochs, spread_epochs=math.ceil(self.spread_epochs * epochs / self.epochs))

    def of_teachers(self) -> "TrainingConfig":
        """Return how the teachers are trained: plain networks, to the same rows."""
        return replace(
            self,
            teachers=0,
            spread_epochs=0,
            activation="relu",
            components=1,
            members=self.teachers,
            per_user=False,
            monotone=False,
        )


FAST = TrainingConfig()
PAPER = TrainingConfig(
    epochs=3000,
    batch_size=1024,
    learning_rate=1e-3,
    schedule="step",
    teachers=0,
    input_noise=0.0,
    spread_epochs=0,
    patience=None,
    scale_qos=False,
    normalise="batch",
    components=1,
)
"""§VI-A1: 3,000 epochs at 0.001, a tenth of it after 1,500. The batch size is not printed; this one is ours."""

PRESETS = {"fast": FAST, "paper": PAPER}


def architecture(config: TrainingConfig, dataset: Dataset) -> Architecture:
    """Return the network's shape for the resources of a dataset, and its direction for the QoS."""
    direction: Monotone = "rising" if dataset.higher_is_better else "falling"
    return Architecture(
        inputs=len(dataset.resource_names) + 1,
        width=config.width,
        depth=config.depth,
        activation=config.activation,
        components=config.components,
        members=config.members,
        per_user=config.per_user,
        monotone=direction if config.monotone else "no",
    )
