"""The slice models of the experiments, trained once and kept with their learning curves."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from microopt.errors import ConfigError, ModelError
from microopt_optimizer.slice_model import model_file, training
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.slice_model.training import Progress, TrainingConfig
from microopt_testbed.experiments import sources
from microopt_testbed.experiments.fingerprint import code_digest
from microopt_testbed.experiments.runner import Runner
from microopt_testbed.experiments.sources import Source

Preset = Literal["paper", "default"]

PRESETS: Final[dict[Preset, TrainingConfig]] = {"paper": training.PAPER, "default": training.FAST}
TITLES: Final[dict[Preset, str]] = {
    "paper": "the paper's architecture and schedule",
    "default": "the shipped default",
}

_QUICK_BATCH: Final = 128
_QUICK_LEARNING_RATE: Final = 1e-2


class Training(Struct, frozen=True, kw_only=True):
    """One training: of what, how, and where the model is kept."""

    preset: Preset
    seed: int
    epochs_share: float
    source: Source
    data_sha256: str
    code: str
    folder: str

    @property
    def config(self) -> TrainingConfig:
        """Return the preset with this seed; shortened, it takes smaller batches at a higher rate."""
        config = replace(PRESETS[self.preset], seed=self.seed)
        if self.epochs_share == 1.0:
            return config
        return replace(
            config,
            epochs=max(1, round(self.epochs_share * config.epochs)),
            spread_epochs=math.ceil(self.epochs_share * config.spread_epochs),
            batch_size=_QUICK_BATCH,
            learning_rate=_QUICK_LEARNING_RATE,
        )

    @property
    def path(self) -> Path:
        """Return where the model is, named by everything that it depends on."""
        parts = [self.config, self.data_sha256, self.code]
        key = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
        return Path(self.folder) / f"{self.preset}-{key}.safetensors"

    @property
    def curve_path(self) -> Path:
        """Return where the learning curve is."""
        return self.path.with_suffix(".curve.json")

    def __str__(self) -> str:
        return f"{TITLES[self.preset]}, seed {self.seed}"


@dataclass(frozen=True)
class Fitted:
    """A trained model, where it is kept, and how it came to be."""

    training: Training
    model: TrainedModel
    curve: list[Progress]

    @property
    def path(self) -> Path:
        """Return the model's file."""
        return self.training.path


def code() -> str:
    """Return the digest of the code that trains."""
    return code_digest(training.__name__)


def fit(trainings: Sequence[Training], run: Runner) -> list[Fitted]:
    """Return the models of all trainings, in their order; those not kept from before are trained.

    Raises:
        ConfigError: a training failed.
    """
    waiting = [one for one in trainings if _load(one) is None]
    run.each(_train, waiting, lambda *_: None, title="training")
    fitted = [_load(one) for one in trainings]
    if any(one is None for one in fitted):
        raise ConfigError(f"a model vanished from {trainings[0].folder}; run again")
    return [one for one in fitted if one is not None]


def _load(one: Training) -> Fitted | None:
    try:
        curve = msgspec.json.decode(one.curve_path.read_bytes(), type=list[Progress])
        return Fitted(one, model_file.load(one.path, str(one)), curve)
    except (ModelError, OSError, msgspec.MsgspecError):  # not trained yet, or cut off
        return None


def _train(one: Training) -> None:
    rows = sources.read(one.source)
    one.path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = one.path.with_suffix(".checkpoint")
    curve: list[Progress] = []
    model = training.train(
        rows.train, one.config, test=rows.test, progress=curve.append, checkpoint=checkpoint, name=str(one)
    )
    model_file.save(model, one.path)
    partial = one.curve_path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(curve))
    partial.replace(one.curve_path)
    checkpoint.unlink(missing_ok=True)
