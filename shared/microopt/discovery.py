"""Which optimizers are alive, by NATS' own service discovery (ADR-32): workers in any language answer it.

What does not announce itself as a NATS service, such as a bare queue subscriber, is not found.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any, Final

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client

from microopt import subjects

WAIT_S: Final = 0.5
MOST_REPLIES: Final = 10_000
_PREFIX: Final = subjects.optimize("x").removesuffix("x")
_NS: Final = 1e6  # nanoseconds in a millisecond


class _Endpoint(Struct, frozen=True):
    """An endpoint in a reply to INFO or STATS; which of the fields are there depends on which it is."""

    subject: str
    name: str = ""
    queue_group: str | None = None
    metadata: dict[str, Any] | None = None
    num_requests: int | None = None
    num_errors: int | None = None
    average_processing_time: float | None = None
    last_error: Any = None


class _Reply(Struct, frozen=True):
    """A reply to INFO or STATS, of a service in whatever language."""

    name: str
    id: str
    version: str = ""
    endpoints: list[_Endpoint] | None = None


class Served(Struct, frozen=True, kw_only=True):
    """One worker that serves one optimizer; `None` is what it does not tell."""

    optimizer: str
    service: str
    id: str
    version: str = ""
    algorithm: str = ""
    requests: int | None = None
    errors: int | None = None
    mean_ms: float | None = None
    last_error: str = ""


class Found(Struct, frozen=True):
    """Who answered, sorted by optimizer and worker, and how many replies no service of ADR-32 would send."""

    served: list[Served]
    malformed: int = 0

    @property
    def optimizers(self) -> set[str]:
        """Return the names that somebody serves."""
        return {one.optimizer for one in self.served}


async def discover(nc: Client, wait_s: float = WAIT_S) -> Found:
    """Ask all services on the bus who they are and how they do, and take what comes within `wait_s`."""
    infos, stats = await asyncio.gather(*(_collected(nc, verb, wait_s) for verb in ("INFO", "STATS")))
    return found(infos, stats)


async def absent(nc: Client, optimizers: Collection[str], wait_s: float = WAIT_S) -> list[str]:
    """Return which of the `optimizers` nobody announces within `wait_s`; sooner, where all are announced."""
    missing = dict.fromkeys(optimizers)
    async with aclosing(_replies(nc, "INFO", wait_s)) as replies:
        async for data in replies:
            for one in found([data], []).served:
                missing.pop(one.optimizer, None)
            if not missing:
                break
    return list(missing)


def found(infos: list[bytes], stats: list[bytes]) -> Found:
    """Return the optimizers among the services of these replies to INFO, with what STATS says of them."""
    who, bad = _decoded(infos)
    how, also_bad = _decoded(stats)
    measured = {(r.id, e.subject): e for r in how for e in r.endpoints or ()}
    served = {
        (optimizer, reply.name, reply.id): _served(optimizer, reply, endpoint, measured)
        for reply in who
        for endpoint in reply.endpoints or ()
        if (optimizer := endpoint.subject.removeprefix(_PREFIX)) != endpoint.subject
    }
    return Found([served[key] for key in sorted(served)], bad + also_bad)


def _served(
    optimizer: str, reply: _Reply, endpoint: _Endpoint, measured: dict[tuple[str, str], _Endpoint]
) -> Served:
    about = measured.get((reply.id, endpoint.subject), endpoint)
    mean_ns = about.average_processing_time
    return Served(
        optimizer=optimizer,
        service=reply.name,
        id=reply.id,
        version=reply.version,
        algorithm=str((endpoint.metadata or {}).get("algorithm") or ""),
        requests=about.num_requests,
        errors=about.num_errors,
        mean_ms=mean_ns / _NS if mean_ns is not None and about.num_requests else None,
        last_error=str(about.last_error or ""),
    )


def _decoded(replies: list[bytes]) -> tuple[list[_Reply], int]:
    good = []
    for data in replies:
        try:
            good.append(msgspec.json.decode(data, type=_Reply))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return good, len(replies) - len(good)


async def _collected(nc: Client, verb: str, wait_s: float) -> list[bytes]:
    async with aclosing(_replies(nc, verb, wait_s)) as replies:
        return [data async for data in replies]


async def _replies(nc: Client, verb: str, wait_s: float) -> AsyncGenerator[bytes, None]:
    """Yield the replies of all services to a verb of ADR-32, as they come."""
    inbox = nc.new_inbox()
    answers = await nc.subscribe(inbox)
    try:
        await nc.publish(f"$SRV.{verb}", reply=inbox)
        end = asyncio.get_running_loop().time() + wait_s
        for _ in range(MOST_REPLIES):
            left_s = end - asyncio.get_running_loop().time()
            if left_s <= 0:
                return
            try:
                message = await answers.next_msg(timeout=left_s)
            except nats.errors.TimeoutError:
                return
            if not (message.headers or {}).get("Status"):  # the server's own word: nobody is there
                yield message.data
    finally:
        await answers.unsubscribe()
