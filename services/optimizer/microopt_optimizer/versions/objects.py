"""Versions of slice models as objects of the bucket `models`: listed, numbered and written."""

import base64
import json
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from nats.js.api import ObjectInfo, ObjectMeta
from nats.js.errors import APIError, BadObjectMetaError, ObjectNotFoundError

from microopt import streams
from microopt.bus import Bus
from microopt.errors import ConfigError
from microopt_optimizer.versions.names import parsed, require_name, versioned

# ADR-20: where an object's entry lies, by the base64 of its name.
STREAM: Final = f"OBJ_{streams.MODELS}"
_ENTRIES: Final = f"$O.{streams.MODELS}.M."
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_WRONG_SEQUENCE: Final = 10071


class Version(Struct, frozen=True, kw_only=True):
    """One version of a model as the object store has it; `about` is what its publisher wrote of it."""

    model: str
    version: int
    size: int
    digest: str
    published_at: str
    about: str


async def get(bus: Bus, name: str, version: int) -> Version | None:
    """Return a version, or None if there is none, or no longer."""
    store = await bus.js.object_store(streams.MODELS)
    try:
        info = await store.get_info(versioned(name, version))
    except (ObjectNotFoundError, BadObjectMetaError):
        return None
    return Version(
        model=name,
        version=version,
        size=info.size or 0,
        digest=info.digest or "",
        published_at=info.mtime or "",
        about=info.description or "",
    )


async def get_all(bus: Bus, name: str | None = None) -> list[Version]:
    """Return the versions of a model, or of all models, by name and number."""
    found = [await get(bus, *each) for each in sorted(await _numbered(bus)) if name in (None, each[0])]
    return [version for version in found if version]


async def put(bus: Bus, name: str, data: bytes, about: str = "") -> int:
    """Write a model as its next version and return the number, which nobody else was or will be given.

    Raises:
        ConfigError: the name cannot have versions.
    """
    require_name(name)
    version = 1 + max((number for model, number in await _numbered(bus) if model == name), default=0)
    while not await _reserved(bus, name, version):
        version += 1
    store = await bus.js.object_store(streams.MODELS)
    await store.put(versioned(name, version), data, ObjectMeta(description=about))
    return version


async def require(bus: Bus, name: str, version: int) -> Version:
    """Return a version.

    Raises:
        ConfigError: there is none; says which there are.
    """
    if found := await get(bus, name, version):
        return found
    known = ", ".join(str(each.version) for each in await get_all(bus, name)) or "none"
    raise ConfigError(f"model {name} has no version {version}; versions: {known}")


async def _numbered(bus: Bus) -> set[tuple[str, int]]:
    """Return model and number of every object that there is or was."""
    subjects = (await bus.js.stream_info(STREAM, subjects_filter=f"{_ENTRIES}>")).state.subjects or {}
    found: set[tuple[str, int]] = set()
    for subject in subjects:
        try:
            found.add(parsed(base64.urlsafe_b64decode(subject.removeprefix(_ENTRIES)).decode()))
        except ValueError:  # no base64 of a name: not written by a client of object stores, and nobody can read it
            continue
    return found


async def _reserved(bus: Bus, name: str, version: int) -> bool:
    """Take a number by an entry that says `deleted`, unless there is any entry; return whether it was taken."""
    require_name(name, version)
    called = versioned(name, version)
    now = datetime.now(UTC).isoformat()
    entry = ObjectInfo(name=called, bucket=streams.MODELS, nuid="", size=0, chunks=0, deleted=True, mtime=now)
    subject = f"{_ENTRIES}{base64.urlsafe_b64encode(called.encode()).decode()}"
    try:
        await bus.js.publish(subject, json.dumps(entry.as_dict()).encode(), headers={_EXPECTED: "0"})
    except APIError as error:
        if error.err_code == _WRONG_SEQUENCE:
            return False
        raise
    return True
