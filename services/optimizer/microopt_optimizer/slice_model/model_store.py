"""Slice models in the bus's object store, and in files that win over it."""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import nats.errors
from nats.js.api import ObjectInfo
from nats.js.errors import BadObjectMetaError, NotFoundError

from microopt import streams
from microopt.bus import Bus
from microopt.errors import ModelError, TemporaryError
from microopt_optimizer.slice_model import model_file
from microopt_optimizer.slice_model.model_file import TrainedModel

MAX_MODEL_BYTES: Final = 256 * 1024 * 1024

# ADR-20: where an object's chunks lie.
_STREAM: Final = f"OBJ_{streams.MODELS}"
_CHUNKS: Final = f"$O.{streams.MODELS}.C"


class ModelStore:
    """Loads models by name, once for each content, onto a device."""

    def __init__(self, bus: Bus, files: Mapping[str, str], device: str = "cpu") -> None:
        self._bus = bus
        self._device = device
        self._files = files
        self._loaded: dict[str, tuple[str, TrainedModel]] = {}

    async def get(self, name: str) -> TrainedModel:
        """Return the model called `name` as it is now; a model that was replaced is loaded again.

        Raises:
            ModelError: there is none, or it cannot be used.
            TemporaryError: the bus does not answer now.
        """
        if name in self._files:
            stamp = await asyncio.to_thread(_file_stamp, self._path(name))
            return self._known(name, stamp) or await self._load(name, stamp, await self._read_file(name))
        try:
            info = await self._info(name)
            stamp = f"{info.nuid}:{info.digest}"
            return self._known(name, stamp) or await self._load(name, stamp, await self._read_object(name, info))
        except nats.errors.Error as error:
            raise TemporaryError(f"model {name!r}: the object store does not answer: {error!r}") from error

    def _known(self, name: str, stamp: str) -> TrainedModel | None:
        """Return the model if it has not changed since it was loaded."""
        known = self._loaded.get(name)
        return known[1] if known and known[0] == stamp else None

    async def _load(self, name: str, stamp: str, data: bytes) -> TrainedModel:
        model = await asyncio.to_thread(self._placed, data, name)
        self._loaded[name] = (stamp, model)
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
            raise ModelError(
                f"model {name!r} is not in the object store; put it there with `microopt train --publish {name}`, "
                f"or name its file in [optimizer] models"
            ) from error
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
                chunk = await self._bus.js.get_msg(_STREAM, sequence + 1, f"{_CHUNKS}.{info.nuid}", next=True)
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
    """Put a model file into the object store under `name` and return its sha256; workers follow at once.

    Raises:
        ModelError: it is not a model that they could use, or too large.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"model {name!r}: {len(data)} bytes, at most {MAX_MODEL_BYTES} are read")
    await asyncio.to_thread(model_file.load, data, name)
    store = await bus.js.object_store(streams.MODELS)
    await store.put(name, data)
    return hashlib.sha256(data).hexdigest()


def _file_stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelError(f"model file {path}: {error.strerror}") from error
    return f"{stat.st_mtime_ns}:{stat.st_size}:{stat.st_ino}"
