"""Slice models as safetensors files, with a JSON header that says what they are of. Nothing is unpickled."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta, Struct
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from microopt.errors import ModelError
from microopt_optimizer.slice_model.distribution import QosDistribution
from microopt_optimizer.slice_model.network import Architecture, SliceModel

_KEY = "microopt"
_MAX_HEADER_BYTES = 1_000_000


class Range(Struct, frozen=True):
    """The least and the greatest value that the training data had."""

    low: float
    high: float


class ResourceInput(Struct, frozen=True, kw_only=True):
    """A resource that a model was trained with: its name on the wire, its unit and the range of its values."""

    name: str
    unit: str
    trained: Range


class Metrics(Struct, frozen=True, kw_only=True):
    """How well a model predicts: L_QoS of paper eq. (4) as mean NLL, and errors of the mean, over `rows` rows.

    `coverage_90` is the share of rows within the central interval that is to hold 90 %; `pit` the histogram of
    P(QoS <= measured) in ten bins and `pit_distance` its largest gap to the uniform distribution, from 0 to 1.
    None, or empty: not measured.
    """

    rows: int
    nll: float
    mse: float
    mae: float
    coverage_50: float | None = None
    coverage_80: float | None = None
    coverage_90: float | None = None
    pit: tuple[float, ...] = ()
    pit_distance: float | None = None


class ModelHeader(Struct, frozen=True, kw_only=True):
    """What a model is a model of; `resources` are in the order of the network's inputs after the users."""

    format: Literal[2] = 2
    architecture: Architecture
    resources: Annotated[tuple[ResourceInput, ...], Meta(min_length=1)]
    users: Range
    qos_metric: str
    qos_unit: str
    higher_is_better: bool
    metrics: dict[str, Metrics] = {}
    data_sha256: str = ""
    training: dict[str, Any] = {}
    """The configuration that it was trained with, for the record."""

    @property
    def resource_names(self) -> tuple[str, ...]:
        """Return the names on the wire, in the order of the inputs."""
        return tuple(resource.name for resource in self.resources)


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode, in float64, and what it is a model of. Call it as a `QosFunction`."""

    network: SliceModel
    header: ModelHeader
    name: str = "unnamed"
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.network.double().eval().requires_grad_(False)
        object.__setattr__(self, "digest", hashlib.sha256(to_bytes(self)).hexdigest())

    def __call__(self, users: Tensor, resources: Tensor, /) -> QosDistribution:
        """Return the distribution of the QoS; see `SliceModel.forward`."""
        qos: QosDistribution = self.network(users, resources)
        return qos

    def require_resources(self, names: Sequence[str]) -> None:
        """Check that the model was trained for exactly the named resources, in any order.

        Raises:
            ModelError: it was not; says for which it was.
        """
        if sorted(names) != sorted(self.header.resource_names):
            raise ModelError(
                f"model {self.name} was trained for resources {sorted(self.header.resource_names)}, "
                f"the slice needs {sorted(names)}"
            )


def to_bytes(model: TrainedModel) -> bytes:
    """Return the model as a safetensors file, with weights in float32."""
    tensors = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.network.state_dict().items()
    }
    return safetensors.save(tensors, {_KEY: msgspec.json.encode(model.header).decode()})


def save(model: TrainedModel, path: Path) -> None:
    """Write the model so that a reader finds the old file or the whole new one, never a part.

    Raises:
        ModelError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(to_bytes(model))
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"model {path}: cannot be written: {error}") from error


def load(source: Path | bytes, name: str | None = None) -> TrainedModel:
    """Load a model from a file or from bytes; `name` says in errors which one it is (default: the path).

    Raises:
        ModelError: cannot be read, cut off, not safetensors, without a header, or of another architecture.
    """
    if isinstance(source, Path):
        name = name or str(source)
        try:
            source = source.read_bytes()
        except OSError as error:
            raise ModelError(f"model {name}: cannot be read: {error}") from error
    name = name or "in memory"
    header = _header(source, name)
    network = _network(source, header, name)
    return TrainedModel(network, header, name)


def _header(data: bytes, name: str) -> ModelHeader:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= _MAX_HEADER_BYTES or data[8:9] != b"{":
        raise ModelError(f"model {name}: not a safetensors file ({len(data)} bytes)")
    if len(data) < 8 + length:
        raise ModelError(f"model {name}: cut off within its header, after {len(data)} bytes; copy it again")
    try:
        top = msgspec.json.decode(data[8 : 8 + length], type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(top.get("__metadata__", msgspec.Raw(b"{}")), type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"model {name}: not a safetensors file: {error}") from error
    if _KEY not in metadata:
        raise ModelError(f"model {name}: has no {_KEY!r} header; it was not written by `microopt train`")
    try:
        header = msgspec.json.decode(metadata[_KEY], type=ModelHeader)
    except msgspec.MsgspecError as error:
        raise ModelError(f"model {name}: its header cannot be used: {error}") from error
    if header.architecture.inputs != len(header.resources) + 1:
        raise ModelError(
            f"model {name}: {header.architecture.inputs} inputs, but users and {len(header.resources)} resources"
        )
    return header


def _network(data: bytes, header: ModelHeader, name: str) -> SliceModel:
    try:
        tensors = safetensors.load(data)
    except SafetensorError as error:
        raise ModelError(f"model {name}: cut off or damaged, {len(data)} bytes: {error}; copy it again") from error
    network = SliceModel(header.architecture)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"model {name}: of another architecture than its header says: {reason}") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ModelError(f"model {name}: has weights that are not finite; train it again")
    return network
