"""The file of `microopt train --config`: which columns a csv has, what the QoS is, and how to train."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from microopt import yaml_file
from microopt.errors import ConfigError
from microopt.explain import explain
from microopt.ids import NAME_PATTERN
from microopt_optimizer.slice_model.config import PRESETS, TrainingConfig
from microopt_optimizer.slice_model.dataset_csv import Columns, ResourceColumn

_Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
_Text = Annotated[str, Meta(min_length=1)]
T = TypeVar("T")


class Resource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A resource's column and the unit of its values."""

    column: _Text
    unit: _Text


class Qos(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The QoS's column, its metric as the SLA names it, its unit, and which way is better."""

    column: _Text
    metric: _Name
    unit: _Text
    higher_is_better: bool


class TrainFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in a csv, and how to train on it; `resources` are named as in the slice's bounds."""

    users: _Text
    """The column of the number of users."""
    time: _Text | None = None
    """The column of times, ISO 8601 or seconds; without it the rows are taken in their order, as settled."""
    qos: Qos
    resources: Annotated[dict[_Name, Resource], Meta(min_length=1)]
    settle_s: Annotated[float, Meta(ge=0.0)] = 0.0
    """Seconds to drop after each change of resources."""
    preset: Literal["fast", "paper"] = "fast"
    training: dict[str, Any] = {}
    """What differs from the preset: fields of `TrainingConfig`."""

    @property
    def columns(self) -> Columns:
        """Return which column is what."""
        return Columns(
            users=self.users,
            qos=self.qos.column,
            time=self.time,
            resources={name: ResourceColumn(one.column, one.unit) for name, one in self.resources.items()},
            qos_metric=self.qos.metric,
            qos_unit=self.qos.unit,
            higher_is_better=self.qos.higher_is_better,
        )


def read(path: Path) -> TrainFile:
    """Read a TOML (`.toml`) or YAML file.

    Raises:
        ConfigError: it cannot be read, or a key is missing, unknown or unfit; the text names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else yaml_file.loads(text)
    except (OSError, tomllib.TOMLDecodeError, *yaml_file.ERRORS) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected users, qos and resources (docs/slice-model.md has an example)")
    file = _convert(values, TrainFile, f"{path}: ")
    _require_distinct(path, file)
    training(file, f"{path}: ")
    return file


def training(file: TrainFile, where: str = "", preset: str | None = None) -> TrainingConfig:
    """Return how to train: a preset (by default the file's) with what the file says differently.

    Raises:
        ConfigError: a field that there is not, or a value that does not fit.
    """
    values = msgspec.to_builtins(PRESETS[preset or file.preset]) | dict(file.training)
    return _convert(values, TrainingConfig, f"{where}training: ")


def _convert(values: Mapping[str, Any], kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}{explain(str(error), kind, values)}") from error


def _require_distinct(path: Path, file: TrainFile) -> None:
    """Refuse a column that is to be two things: what it means could only be guessed."""
    used = [file.users, file.qos.column, *([file.time] if file.time else [])]
    used += [resource.column for resource in file.resources.values()]
    for column in used:
        if used.count(column) > 1:
            raise ConfigError(f"{path}: column {column!r} is named twice; each column is one thing")
