"""Routes in their bucket: read with the revision, written only on top of it, and their history."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
from nats.js.api import RawStreamMsg
from nats.js.errors import KeyWrongLastSequenceError, NotFoundError

from microopt import codec, streams
from microopt.bus import Bus
from microopt.desired import value_of
from microopt.errors import ConfigError, InvalidMessageError, MicrooptError
from microopt.routes import content, rolled_back
from microopt.specs import Route
from microopt.watch import MARKER, OPERATION

STREAM: Final = f"KV_{streams.ROUTES}"


class RouteConflictError(MicrooptError):
    """Somebody else changed the route since it was read; nothing was written."""


@dataclass(frozen=True)
class Revision:
    """One revision of a pool's route; `route` is None where it was removed or, with `error`, cannot be read.

    `number` 0 is none yet.
    """

    pool: str
    number: int
    route: Route | None = None
    at: datetime | None = None
    error: str = ""

    def require(self) -> Route:
        """Return the route.

        Raises:
            ConfigError: there is none, or it cannot be read; the text names the remedy.
        """
        if self.route is not None:
            return self.route
        trouble = self.error or f"pool {self.pool} has no route"
        raise ConfigError(f"{trouble}; set one: `microopt route set {self.pool} OPTIMIZER`")


async def current(bus: Bus, pool: str) -> Revision:
    """Return the newest revision of a pool's route."""
    try:
        message = await bus.js.get_last_msg(STREAM, _subject(pool))
    except NotFoundError:
        return Revision(pool, 0)
    return _revision(pool, message)


async def history(bus: Bus, pool: str) -> list[Revision]:
    """Return the revisions that the bucket still has, newest first."""
    found: list[Revision] = []
    sequence = 0
    while True:
        try:
            message = await bus.js.get_msg(STREAM, sequence + 1, _subject(pool), next=True)
        except NotFoundError:
            return found[::-1]
        found.append(_revision(pool, message))
        sequence = found[-1].number


def former(now: Revision, revisions: Sequence[Revision], number: int | None = None) -> Revision:
    """Return the revision to roll back to: `number`, or the newest before `now` that decides otherwise.

    Raises:
        ConfigError: there is none, or it is no route; the text names those that there are.
    """
    older = [r for r in revisions if r.number < now.number and r.route is not None]
    if number is not None:
        found = next((r for r in older if r.number == number), None)
    else:
        stands = content(now.route) if now.route else None
        found = next((r for r in older if r.route and content(rolled_back(r.route)) != stands), None)
    if found is None:
        kept = ", ".join(str(r.number) for r in older) or "none"
        what = "no former route that differs" if number is None else f"no former route of revision {number}"
        raise ConfigError(f"pool {now.pool} has {what}; former revisions: {kept}")
    return found


async def write(bus: Bus, on: Revision, route: Route, *, by: str, reason: str) -> int:
    """Write `route` on top of the revision that it was made from, stamped with who, when and why.

    Returns:
        The new revision's number.

    Raises:
        RouteConflictError: the route was changed meanwhile; the text says by whom.
        InvalidMessageError: the route is not what its type allows.
    """
    stamped = msgspec.structs.replace(route, changed_at=datetime.now(UTC), changed_by=by, reason=reason)
    data = codec.encode(stamped)
    kv = await bus.js.key_value(streams.ROUTES)
    try:
        return await kv.update(on.pool, data, last=on.number)
    except KeyWrongLastSequenceError as error:
        raise RouteConflictError(_conflict(await current(bus, on.pool))) from error


async def change(bus: Bus, pool: str, logic: Callable[[Route], Route], *, by: str, reason: str) -> Route:
    """Apply `logic` to a pool's route and write the outcome, unless that is what stands already.

    Raises:
        ConfigError: the pool has no route, or `logic` refuses.
        RouteConflictError: the route was changed meanwhile.
    """
    before = await current(bus, pool)
    former = before.require()
    after = logic(former)
    if content(after) != content(former):
        await write(bus, before, after, by=by, reason=reason)
    return after


def _subject(pool: str) -> str:
    return f"$KV.{streams.ROUTES}.{pool}"


def _revision(pool: str, message: RawStreamMsg) -> Revision:
    number, headers = message.seq or 0, message.headers or {}
    if OPERATION in headers or MARKER in headers:
        return Revision(pool, number, at=message.time)
    try:
        route = value_of(message.data or b"", Route, streams.ROUTES, pool)
    except InvalidMessageError as error:
        return Revision(pool, number, at=message.time, error=str(error))
    return Revision(pool, number, route, at=message.time)


def _conflict(now: Revision) -> str:
    if now.route is None:
        what = f"the route of pool {now.pool} was removed or spoilt meanwhile"
    else:
        by = f"by {now.route.changed_by}" if now.route.changed_by else "by somebody who gave no name"
        why = f" ({now.route.reason})" if now.route.reason else ""
        at = f" at {now.route.changed_at.astimezone(UTC):%H:%M:%S} UTC" if now.route.changed_at else ""
        what = f"the route of pool {now.pool} was changed meanwhile {by}{at}{why}"
    return f"{what}; nothing was written: look at `microopt route show {now.pool} --history`, then try again"
