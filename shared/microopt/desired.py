"""Reading desired state from a file, and from and into the KV buckets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from nats.js.errors import InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError

from microopt import codec, streams, yaml_file
from microopt.bus import Bus
from microopt.errors import ConfigError, InvalidMessageError
from microopt.explain import explain
from microopt.ids import slice_id
from microopt.specs import Margin, ModelRoute, PoolSpec, Route, SliceSpec, key_of

T = TypeVar("T")

BUCKET_OF: Final[dict[type[Any], str]] = {
    PoolSpec: streams.POOLS,
    SliceSpec: streams.SLICES,
    Route: streams.ROUTES,
    Margin: streams.MARGINS,
    ModelRoute: streams.MODEL_ROUTES,
}


class Desired(Struct, frozen=True):
    """Pools, slices and routes as one file gives them."""

    pools: list[PoolSpec]
    slices: list[SliceSpec]
    routes: list[Route]


def read_file(path: Path) -> Desired:
    """Return what a YAML file with `pools:`, `slices:` and `routes:` (name → fields) asks for.

    Raises:
        ConfigError: the file cannot be read, or an entry cannot be used or is given twice; the text names entry
            and field.
    """
    try:
        tables = yaml_file.loads(path.read_text(encoding="utf-8"))
    except (OSError, *yaml_file.ERRORS) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(tables, dict) or not set(tables) <= {"pools", "slices", "routes"}:
        raise ConfigError(f"{path}: expected the tables pools, slices and routes")
    desired = Desired(
        pools=_entries(path, tables, "pools", PoolSpec, key="pool"),
        slices=_entries(path, tables, "slices", SliceSpec, key="slice"),
        routes=_entries(path, tables, "routes", Route, key="pool"),
    )
    check(desired)
    return desired


def check(desired: Desired) -> None:
    """Make sure that slices fit their pools.

    Raises:
        ConfigError: a slice whose pool is not given, or whose bounds name other resources than its pool has.
    """
    pools = {pool.pool: pool for pool in desired.pools}
    for spec in desired.slices:
        if (pool := pools.get(spec.pool)) is None:
            raise ConfigError(
                f"slice {spec.slice}: pool {spec.pool!r} is not given; pools: {', '.join(sorted(pools)) or 'none'}"
            )
        if set(spec.bounds) != set(pool.resources):
            raise ConfigError(
                f"slice {spec.slice}: bounds name {sorted(spec.bounds)}, "
                f"pool {spec.pool!r} has {sorted(pool.resources)}"
            )


async def put(bus: Bus, desired: Desired) -> None:
    """Write everything that is asked for; agents follow at once."""
    for pool in desired.pools:
        await bus.put_spec(streams.POOLS, pool.pool, pool)
    for spec in desired.slices:
        await bus.put_spec(streams.SLICES, spec.slice, spec)
    for route in desired.routes:
        await bus.put_spec(streams.ROUTES, route.pool, route)


async def put_missing(bus: Bus, bucket: str, specs: Mapping[str, Any]) -> list[str]:
    """Write the entries of a bucket that never were in it, and return their keys.

    What stands there stays as it is, and what was deleted stays deleted.
    """
    kv = await bus.js.key_value(bucket)
    written = []
    for key, spec in specs.items():
        try:
            await kv.update(key, codec.encode(spec), last=0)  # also a mark of deletion has a sequence
        except KeyWrongLastSequenceError:
            continue
        written.append(key)
    return written


async def get(bus: Bus, kind: type[T], key: str) -> T | None:
    """Return one entry, or None if there is none.

    Raises:
        InvalidMessageError: what stands there cannot be used.
    """
    bucket = BUCKET_OF[kind]
    kv = await bus.js.key_value(bucket)
    try:
        entry = await kv.get(key)
    except (KeyNotFoundError, InvalidKeyError):
        return None
    return value_of(entry.value or b"", kind, bucket, key)


def value_of(data: bytes, kind: type[T], bucket: str, key: str) -> T:
    """Return what an entry of a bucket says.

    Raises:
        InvalidMessageError: it is no `kind`, or of another key than it stands under.
    """
    value = codec.decode(data, kind, origin=f"{bucket}/{key}")
    if key_of(value) not in (None, key):
        raise InvalidMessageError(f"{bucket}/{key}: is of {key_of(value)!r}, but stands under {key!r}")
    return value


async def get_all(bus: Bus, kind: type[T]) -> tuple[dict[str, T], list[str]]:
    """Return every entry that can be used, and what is wrong with the others."""
    # Not kv.keys(): nats.py may end it before the first key has arrived.
    prefix = f"$KV.{BUCKET_OF[kind]}."
    state = (await bus.js.stream_info(f"KV_{BUCKET_OF[kind]}", subjects_filter=f"{prefix}>")).state
    keys = [subject.removeprefix(prefix) for subject in state.subjects or {}]
    found: dict[str, T] = {}
    wrong: list[str] = []
    for key in sorted(keys):
        try:
            if (value := await get(bus, kind, key)) is not None:
                found[key] = value
        except InvalidMessageError as error:
            wrong.append(str(error))
    return found, wrong


def _entries(path: Path, tables: dict[str, Any], table: str, kind: type[T], key: str) -> list[T]:
    entries = tables.get(table) or {}
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: {table}: expected names, each with its fields")
    found: dict[str, T] = {}
    for name, fields in entries.items():
        where = f"{path}: {table}/{name}"
        canonical = _canonical(where, name, key)
        if canonical in found:
            raise ConfigError(f"{where}: the same as {canonical}, which is given before it; remove one of the two")
        found[canonical] = _entry(where, canonical, fields, kind, key)
    return list(found.values())


def _canonical(where: str, name: str, key: str) -> str:
    try:
        return slice_id(name) if key == "slice" else name
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _entry(where: str, name: str, fields: Any, kind: type[T], key: str) -> T:
    tag = kind.__struct_config__.tag  # type: ignore[attr-defined]
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: expected fields, got {fields!r}")
    if given := {"type", key} & set(fields):
        raise ConfigError(f"{where}: {sorted(given)[0]!r} follows from where the entry stands; remove it")
    values = {"type": tag, key: name, **fields}
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {explain(str(error), kind, values)}") from error
