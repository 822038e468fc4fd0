"""A training under way as a safetensors file: whoever goes on from it gets the same model, bit for bit."""

import hashlib
import math
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from microopt.errors import ConfigError
from microopt_optimizer.slice_model.config import TrainingConfig
from microopt_optimizer.slice_model.dataset import Dataset
from microopt_optimizer.slice_model.fitting import Fit, Progress

_KEY: Final = "microopt_training"


class _State(Struct, frozen=True, kw_only=True):
    """Where a training is, and its teacher's."""

    epoch: int
    stopped: int | None
    best_nll: float | None
    best_epoch: int
    teacher: "_State | None"


class _Kept(Struct, frozen=True, kw_only=True):
    """What is not a tensor; `data` is the digest of training and validation rows in their order."""

    config: TrainingConfig
    data: str
    curve: list[Progress]
    state: _State


def digest(rows: Dataset, held_out: Dataset) -> str:
    """Return what identifies the rows of a training, split included."""
    return hashlib.sha256(f"{rows.sha256()} {held_out.sha256()}".encode()).hexdigest()


def save(fit: Fit, data: str, path: Path) -> None:
    """Keep a training between two points of its curve, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    kept = _Kept(config=fit.config, data=data, curve=fit.curve, state=_state(fit))
    content = safetensors.save(_tensors(fit), {_KEY: msgspec.json.encode(kept).decode()})
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"checkpoint {path}: cannot be written: {error}") from error


def restore(fit: Fit, data: str, path: Path) -> None:
    """Bring a training that has not begun to where the one in the file is.

    Raises:
        ConfigError: the file is not a training's, is damaged, or is of other rows or another configuration.
    """
    kept, tensors = _read(path)
    if kept.config != fit.config or kept.data != data:
        what = "configuration" if kept.config != fit.config else "data"
        raise ConfigError(f"checkpoint {path}: of a training with other {what}; delete it, or name another file")
    try:
        _load(fit, kept.state, tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ConfigError(f"checkpoint {path}: lacks a part of the training: {error}; delete it") from error
    fit.curve = list(kept.curve)


def _state(fit: Fit) -> _State:
    return _State(
        epoch=fit.epoch,
        stopped=fit.stopped,
        best_nll=fit.best_nll if fit.best else None,
        best_epoch=fit.best_epoch,
        teacher=_state(fit.teacher) if fit.teacher else None,
    )


def _tensors(fit: Fit) -> dict[str, Tensor]:
    tensors = {f"network/{name}": tensor for name, tensor in fit.network.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in (fit.best or {}).items()}
    for number, state in fit.optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{number}/{name}": tensor for name, tensor in state.items()}
    tensors |= {f"shuffle/{number}": shuffle.get_state() for number, shuffle in enumerate(fit.shuffles)}
    tensors["draws"] = fit.draws.get_state()
    if fit.teacher:
        tensors |= {f"teacher/{name}": tensor for name, tensor in _tensors(fit.teacher).items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _load(fit: Fit, kept: _State, tensors: dict[str, Tensor]) -> None:
    fit.network.load_state_dict(_below(tensors, "network/"))
    fit.best = _below(tensors, "best/") or None
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "adam/").items():
        number, _, part = name.partition("/")
        state.setdefault(int(number), {})[part] = tensor
    groups = fit.optimizer.state_dict()["param_groups"]
    fit.optimizer.load_state_dict({"state": state, "param_groups": groups})
    for member, shuffle in enumerate(fit.shuffles):
        shuffle.set_state(tensors[f"shuffle/{member}"])
    fit.draws.set_state(tensors["draws"])
    fit.epoch, fit.stopped, fit.best_epoch = kept.epoch, kept.stopped, kept.best_epoch
    fit.best_nll = math.inf if kept.best_nll is None else kept.best_nll
    if fit.teacher and kept.teacher:
        _load(fit.teacher, kept.teacher, _below(tensors, "teacher/"))


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read(path: Path) -> tuple[_Kept, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        return msgspec.json.decode(metadata[_KEY], type=_Kept), tensors
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"checkpoint {path}: not that of a training, or damaged: {error!r}; delete it"
        ) from error
