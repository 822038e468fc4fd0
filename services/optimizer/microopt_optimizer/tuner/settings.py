"""The table [tuner]."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from microopt.errors import ConfigError

_Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]
_Rows = Annotated[int, Meta(ge=1, le=1_000_000)]
_Nats = Annotated[float, Meta(gt=0.0, le=100.0)]


class OriginalData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model was trained on: a csv, and the file of `microopt train --config`, where one was used."""

    csv: str
    config: str = ""


class TunerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a slice model has drifted, and what becomes of it then. NLLs are in nats a slot."""

    every_s: _Seconds = 10.0
    """Between two measurements of the models."""
    settle_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 12.0
    """Slots that begin sooner after a change of the slice's allocation are left out."""
    window: _Rows = 20_000
    """Fresh slots kept of each model."""
    judged: _Rows = 500
    """The latest slots, whose mean NLL is compared with the validation's."""
    margin: _Nats = 0.3
    """By how much it must be worse."""
    samples: _Rows = 200
    """For how many slots in a row, for the model to have drifted."""
    tune_rows: Annotated[int, Meta(ge=64, le=1_000_000)] = 1_000
    """Slots since the drift that a tuning takes at least, a quarter of them held out."""
    gain: _Nats = 0.05
    """By how much a new version must be better on held-out slots to be offered."""
    promote: bool = False
    """Put what is better in force; otherwise it is offered to operators."""
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 30
    learning_rate: Annotated[float, Meta(gt=0.0, le=1.0)] = 2e-3
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    """CPU threads of a tuning."""
    data: dict[str, OriginalData] = {}
    """Model → what it was trained on, to be learnt beside the fresh slots: as many rows of it at most."""

    def __post_init__(self) -> None:
        for name in ("judged", "tune_rows"):
            if getattr(self, name) > self.window:
                raise ValueError(f"{name} is {getattr(self, name)}, more than the window's {self.window} slots")

    def require_files(self) -> None:
        """Make sure that the original data is there.

        Raises:
            ConfigError: a file is not.
        """
        for model, data in self.data.items():
            for path in filter(None, (data.csv, data.config)):
                if not Path(path).is_file():
                    raise ConfigError(f"[tuner] data.{model}: no such file {path}")
