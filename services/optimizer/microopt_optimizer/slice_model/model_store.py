"""Slice models in the bus's object store, and in files that win over it."""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import nats.errors
import structlog
from nats.js.api import ObjectInfo
from nats.js.errors import BadObjectMetaError, NotFoundError

from microopt import streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, ModelError, TemporaryError
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_optimizer.versions import objects, routes
from microopt_optimizer.versions.names import parsed, require_name, versioned

log = structlog.get_logger("microopt.models")

MAX_MODEL_BYTES: Final = 256 * 1024 * 1024

# ADR-20: where an object's chunks lie.
_CHUNKS: Final = f"$O.{streams.MODELS}.C"


class ModelStore:
    """Loads models by name, once for each content, onto a device; a name means the version that is routed."""

    def __init__(self, bus: Bus, files: Mapping[str, str], device: str = "cpu") -> None:
        self._bus = bus
        self._device = device
        self._files = files
        self._loaded: dict[str, tuple[str, TrainedModel]] = {}
        self._routed: dict[str, int] = {}

    async def get(self, name: str) -> TrainedModel:
        """Return the model called `name` as it is now; a model that was replaced, or routed anew, is loaded again.

        It is called like its object: `embb--3` where version 3 of `embb` is in force. Whoever still uses the one
        from before keeps it.

        Raises:
            ModelError: there is none, or it cannot be used.
            TemporaryError: the bus does not answer now.
        """
        if name in self._files:
            stamp = await asyncio.to_thread(_file_stamp, self._path(name))
            return self._known(name, stamp) or await self._load(name, stamp, await self._read_file(name))
        try:
            called = versioned(name, await self._version(name))
            info = await self._info(called)
            stamp = f"{called}:{info.nuid}:{info.digest}"
            if known := self._known(name, stamp):
                return known
            return await self._load(name, stamp, await self._read_object(called, info), called)
        except nats.errors.Error as error:
            raise TemporaryError(f"model {name!r}: the object store does not answer: {error!r}") from error

    def _known(self, name: str, stamp: str) -> TrainedModel | None:
        """Return the model if it has not changed since it was loaded."""
        known = self._loaded.get(name)
        return known[1] if known and known[0] == stamp else None

    async def _version(self, name: str) -> int:
        """Return which version of a model is in force; 0 is the one without a version."""
        if parsed(name)[1]:
            return 0  # of a version there are no versions
        try:
            route, _ = await routes.current(self._bus, name)
        except InvalidMessageError as error:
            if name not in self._routed:
                raise ModelError(
                    f"model {name!r}: which version is in force cannot be read: {error}; "
                    f"`microopt model promote {name} VERSION` says it anew"
                ) from error
            log.error("former_version_in_force", model=name, version=self._routed[name], error=str(error))
            return self._routed[name]
        self._routed[name] = route.version if route else 0
        return self._routed[name]

    async def _load(self, name: str, stamp: str, data: bytes, called: str | None = None) -> TrainedModel:
        model = await asyncio.to_thread(self._placed, data, called or name)
        self._loaded[name] = (stamp, model)
        log.info("model_loaded", model=name, object=called or "file", digest=model.digest[:12])
        return model

    def _placed(self, data: bytes, name: str) -> TrainedModel:
        model = model_file.load(data, name)
        try:
            model.network.to(self._device)
        except RuntimeError as error:
            raise ModelError(f"model {name!r}: cannot be put onto {self._device}: {error}") from error
        return model

    async def _info(self, name: str) -> ObjectInfo:
        try:
            store = await self._bus.js.object_store(streams.MODELS)
            info = await store.get_info(name)
        except NotFoundError as error:
            raise ModelError(f"model {name!r} is not in the object store; {_remedy(name)}") from error
        except BadObjectMetaError as error:
            raise ModelError(f"model {name!r}: what the object store says of it cannot be read") from error
        if (info.size or 0) > MAX_MODEL_BYTES:
            raise ModelError(f"model {name!r}: {info.size} bytes, at most {MAX_MODEL_BYTES} are read")
        return info

    async def _read_object(self, name: str, info: ObjectInfo) -> bytes:
        """Return the object's bytes, chunk by chunk: a subscription would wait for ever for one that is gone."""
        data, sequence, size = bytearray(), 0, info.size or 0
        while len(data) < size:
            try:
                chunk = await self._bus.js.get_msg(
                    objects.STREAM, sequence + 1, f"{_CHUNKS}.{info.nuid}", next=True
                )
            except NotFoundError as error:
                raise ModelError(
                    f"model {name!r}: cut off, {len(data)} of {size} bytes are in the object store; "
                    "publish it again"
                ) from error
            data += chunk.data or b""
            sequence = chunk.seq or 0
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
        if info.digest and info.digest != f"SHA-256={digest}":
            raise ModelError(f"model {name!r}: damaged in the object store; publish it again")
        return bytes(data)

    async def _read_file(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise ModelError(f"model file {path}: {error.strerror}") from error

    def _path(self, name: str) -> Path:
        return Path(self._files[name])


async def publish(bus: Bus, name: str, data: bytes) -> str:
    """Put a model file into the object store under `name` and return its sha256.

    Workers follow at once, unless a version of the model is in force.

    Raises:
        ModelError: it is not a model that they could use, or too large.
    """
    await _require_usable(name, data)
    store = await bus.js.object_store(streams.MODELS)
    await store.put(name, data)
    return hashlib.sha256(data).hexdigest()


async def publish_version(bus: Bus, name: str, data: bytes, about: str = "") -> int:
    """Put a model file into the object store as the next version of `name` and return its number.

    It is in force once it is promoted (`versions.routes`).

    Raises:
        ConfigError: the name cannot have versions.
        ModelError: it is not a model that workers could use, or too large.
    """
    require_name(name)
    await _require_usable(name, data)
    return await objects.put(bus, name, data, about)


async def _require_usable(name: str, data: bytes) -> None:
    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"model {name!r}: {len(data)} bytes, at most {MAX_MODEL_BYTES} are read")
    await asyncio.to_thread(model_file.load, data, name)


def _remedy(name: str) -> str:
    model, version = parsed(name)
    if version:
        return f"`microopt model list {model}` shows the versions that are"
    return f"put it there with `microopt train --publish {name}`, or name its file in [optimizer] models"


def _file_stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelError(f"model file {path}: {error.strerror}") from error
    return f"{stat.st_mtime_ns}:{stat.st_size}:{stat.st_ino}"
