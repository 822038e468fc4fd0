"""Slice models in the bus's object store, and in files that win over it."""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nats.js.errors import NotFoundError, ObjectDeletedError, ObjectNotFoundError
from nats.js.object_store import ObjectStore

from microopt import streams
from microopt.bus import Bus
from microopt.errors import ModelError
from microopt_optimizer import model_file
from microopt_optimizer.model_file import TrainedModel

MAX_MODEL_BYTES: Final = 256 * 1024 * 1024

_ABSENT = (ObjectNotFoundError, ObjectDeletedError, NotFoundError)


class ModelStore:
    """Loads models by name, once for each content."""

    def __init__(self, bus: Bus, files: Mapping[str, str]) -> None:
        self._bus = bus
        self._files = files
        self._loaded: dict[str, tuple[str, TrainedModel]] = {}

    async def get(self, name: str) -> TrainedModel:
        """Return the model called `name` as it is now; a model that was replaced is loaded again.

        Raises:
            ModelError: there is none, or it cannot be used.
        """
        store = None if name in self._files else await self._bus.js.object_store(streams.MODELS)
        stamp = await self._stamp(name, store)
        if (known := self._loaded.get(name)) and known[0] == stamp:
            return known[1]
        data = await self._read(name, store)
        model = await asyncio.to_thread(model_file.load, data, name)
        self._loaded[name] = (stamp, model)
        return model

    async def _stamp(self, name: str, store: ObjectStore | None) -> str:
        """Return what changes when the model does, cheaply."""
        if store is None:
            return await asyncio.to_thread(_file_stamp, self._path(name))
        try:
            info = await store.get_info(name)
        except _ABSENT as error:
            raise ModelError(
                f"model {name!r} is not in the object store; put it there with `microopt train --publish {name}`, "
                f"or name its file in [optimizer] models"
            ) from error
        if (info.size or 0) > MAX_MODEL_BYTES:
            raise ModelError(f"model {name!r}: {info.size} bytes, at most {MAX_MODEL_BYTES} are read")
        return f"{info.nuid}:{info.digest}"

    async def _read(self, name: str, store: ObjectStore | None) -> bytes:
        if store is None:
            return await asyncio.to_thread(self._path(name).read_bytes)
        try:
            return (await store.get(name)).data or b""
        except _ABSENT as error:
            raise ModelError(f"model {name!r}: removed while it was read") from error

    def _path(self, name: str) -> Path:
        return Path(self._files[name])


async def publish(bus: Bus, name: str, data: bytes) -> str:
    """Put a model file into the object store under `name` and return its sha256; workers follow at once.

    Raises:
        ModelError: it is not a model that they could use.
    """
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
