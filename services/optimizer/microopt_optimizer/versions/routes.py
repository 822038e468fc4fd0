"""Which version of a slice model is in force: the bucket `model_routes`, written by compare-and-set alone."""

from datetime import UTC, datetime
from typing import Final

from nats.js.api import RawStreamMsg
from nats.js.errors import KeyWrongLastSequenceError, NotFoundError

from microopt import codec, desired, streams
from microopt.bus import Bus
from microopt.errors import ConfigError, InvalidMessageError, TemporaryError
from microopt.messages import Event
from microopt.specs import ModelRoute, SliceSpec
from microopt.watch import MARKER, OPERATION
from microopt_optimizer.versions import objects
from microopt_optimizer.versions.names import require_name

_STREAM: Final = f"KV_{streams.MODEL_ROUTES}"
_KEYS: Final = f"$KV.{streams.MODEL_ROUTES}."

Standing = tuple[ModelRoute | None, int]
"""A route, None where there is none, and the revision that a change of it must be made from."""


async def current(bus: Bus, name: str) -> Standing:
    """Return the route of a model as it stands now.

    Raises:
        InvalidMessageError: what stands there is no route.
    """
    try:
        message = await bus.js.get_last_msg(_STREAM, f"{_KEYS}{name}")
    except NotFoundError:
        return None, 0
    return _route(name, message), message.seq or 0


async def history(bus: Bus, name: str) -> list[ModelRoute]:
    """Return the routes that a model had and that can be read, oldest first."""
    kept: list[ModelRoute] = []
    sequence = 0
    while True:
        try:
            message = await bus.js.get_msg(_STREAM, sequence + 1, f"{_KEYS}{name}", next=True)
        except NotFoundError:
            return kept
        sequence = message.seq or sequence + 1
        try:
            route = _route(name, message)
        except InvalidMessageError:
            continue
        if route:
            kept.append(route)


async def promote(
    bus: Bus, name: str, version: int, *, reason: str, by: str, standing: Standing | None = None
) -> ModelRoute:
    """Put a version in force for the slices that name the model, and return the route.

    `standing` is what the change is made from, by default what stands now.

    Raises:
        ConfigError: there is no such version, or it is in force already.
        TemporaryError: somebody else changed the route meanwhile.
    """
    require_name(name)
    await objects.require(bus, name, version)
    former, revision = standing or await _to_be_replaced(bus, name)
    if former and former.version == version:
        raise ConfigError(f"model {name}: version {version} is in force already")
    previous = former.version if former else 0 if version and await objects.get(bus, name, 0) else None
    return await _write(bus, _changed(name, version, previous, reason, by), revision)


async def rollback(bus: Bus, name: str, *, reason: str, by: str) -> ModelRoute:
    """Put the version in force that was before the one that is, and return the route; once more goes further back.

    Raises:
        ConfigError: nothing was in force before, or it is gone.
        TemporaryError: somebody else changed the route meanwhile.
    """
    former, revision = await current(bus, name)
    if former is None or former.previous is None:
        stands = f"version {former.version} came first" if former else "it has no route"
        raise ConfigError(f"model {name}: nothing to go back to, {stands}; see `microopt model list {name}`")
    await objects.require(bus, name, former.previous)
    before = _before(await history(bus, name), former)
    text = f"rollback from version {former.version}" + (f": {reason}" if reason else "")
    return await _write(bus, _changed(name, former.previous, before, text, by), revision)


def _before(kept: list[ModelRoute], standing: ModelRoute) -> int | None:
    """Return what was in force before the version that a rollback from `standing` puts in force.

    A rollback writes what was before once more: only the first of its like stands where it came from, and from any
    other the way back could be a circle.
    """
    alike = (standing.version, standing.previous)
    first = next((at for at, one in enumerate(kept) if (one.version, one.previous) == alike), len(kept))
    return next((one.previous for one in reversed(kept[:first]) if one.version == standing.previous), None)


async def announce(bus: Bus, name: str, reason: str) -> None:
    """Publish an event about a model for each pool with slices that name it."""
    slices, _ = await desired.get_all(bus, SliceSpec)
    now = datetime.now(UTC)
    for pool in sorted({spec.pool for spec in slices.values() if spec.model == name}):
        await bus.publish(Event(pool=pool, kind="model", at=now, reason=reason[:2000]))


async def _to_be_replaced(bus: Bus, name: str) -> Standing:
    """Return the route that stands; one that cannot be read is replaced as if there was none."""
    try:
        return await current(bus, name)
    except InvalidMessageError:
        return None, (await bus.js.get_last_msg(_STREAM, f"{_KEYS}{name}")).seq or 0


async def _write(bus: Bus, route: ModelRoute, revision: int) -> ModelRoute:
    kv = await bus.js.key_value(streams.MODEL_ROUTES)
    try:
        await kv.update(route.model, codec.encode(route), last=revision)
    except KeyWrongLastSequenceError as error:
        raise TemporaryError(
            f"model {route.model}: somebody else changed its route meanwhile; "
            f"see `microopt model list {route.model}`, then try again"
        ) from error
    text = f"model {route.model}: version {route.version} in force by {route.changed_by}: {route.reason or '-'}"
    await announce(bus, route.model, text)
    return route


def _changed(name: str, version: int, previous: int | None, reason: str, by: str) -> ModelRoute:
    return ModelRoute(
        model=name,
        version=version,
        previous=previous,
        changed_at=datetime.now(UTC),
        changed_by=by,
        reason=reason,
    )


def _route(name: str, message: RawStreamMsg) -> ModelRoute | None:
    headers = message.headers or {}
    if OPERATION in headers or MARKER in headers:
        return None
    origin = f"{streams.MODEL_ROUTES}/{name}"
    route = codec.decode(message.data or b"", ModelRoute, origin=origin)
    if route.model != name:
        raise InvalidMessageError(f"{origin}: is of {route.model!r}, but stands under {name!r}")
    return route
