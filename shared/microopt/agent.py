"""What an agent is: a name, and the handlers and tasks that `microopt.runtime` runs for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from microopt import __version__
from microopt.bus import Bus
from microopt.metrics import AgentMetrics
from microopt.pull import Start
from microopt.settings import Settings

M = TypeVar("M")
S = TypeVar("S")


@dataclass(frozen=True)
class Context:
    """What a handler may use besides its message.

    `sequence` is the message's in its stream, 0 where there is none. `opened` tells of each message type whether
    what is published from now on will be handled.
    """

    bus: Bus
    settings: Settings
    metrics: AgentMetrics
    log: structlog.stdlib.BoundLogger
    sequence: int = 0
    opened: dict[type[Any], asyncio.Event] = field(default_factory=dict)


MessageHandler = Callable[[M, Context], Awaitable[None]]
SpecHandler = Callable[[str, S | None, Context], Awaitable[None]]
RequestHandler = Callable[[Any, Context], Awaitable[Any]]
RootTask = Callable[[Context], Awaitable[None]]
Lifespan = Callable[[Context], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class MessageRule:
    """Handle each message of one type."""

    kind: type[Any]
    handler: MessageHandler[Any]
    durable: bool
    start: Start
    max_deliver: int


@dataclass(frozen=True)
class SpecRule:
    """Handle each change of one bucket of desired state."""

    bucket: str
    kind: type[Any]
    handler: SpecHandler[Any]


@dataclass(frozen=True)
class EndpointRule:
    """Answer requests on one subject: one of all replicas does where it is `shared`, else every one."""

    name: str
    subject: str
    kind: type[Any]
    handler: RequestHandler
    metadata: dict[str, str]
    shared: bool = True


@asynccontextmanager
async def _no_lifespan(_: Context) -> AsyncIterator[None]:
    yield


@dataclass
class Agent:
    """An agent to be run by `microopt.run`: register handlers, then hand it over.

    `lifespan` is an async context manager around everything else, for what must be opened and closed.
    """

    name: str
    version: str = __version__
    description: str = ""
    lifespan: Lifespan = _no_lifespan
    messages: list[MessageRule] = field(default_factory=list)
    specs: list[SpecRule] = field(default_factory=list)
    endpoints: list[EndpointRule] = field(default_factory=list)
    tasks: dict[str, RootTask] = field(default_factory=dict)

    def on(
        self, kind: type[M], *, durable: bool = False, start: Start = "last", max_deliver: int = 5
    ) -> Callable[[MessageHandler[M]], MessageHandler[M]]:
        """Register the handler of a message type, at least once for each message, in order.

        With `durable`, replicas share the messages and resume where they stopped; without, each replica sees
        all, beginning at `start`. TemporaryError makes the message come again, up to `max_deliver` times;
        PermanentError, and the last failure, put it on the dead-letter subject.
        """

        def register(handler: MessageHandler[M]) -> MessageHandler[M]:
            self.messages.append(MessageRule(kind, handler, durable, start, max_deliver))
            return handler

        return register

    def watch(self, bucket: str, kind: type[S]) -> Callable[[SpecHandler[S]], SpecHandler[S]]:
        """Register the handler of a bucket's values: first those that stand, then each change."""

        def register(handler: SpecHandler[S]) -> SpecHandler[S]:
            self.specs.append(SpecRule(bucket, kind, handler))
            return handler

        return register

    def endpoint(
        self,
        name: str,
        subject: str,
        kind: type[Any],
        metadata: dict[str, str] | None = None,
        *,
        shared: bool = True,
    ) -> Callable[[RequestHandler], RequestHandler]:
        """Register the handler that answers requests on `subject` (a NATS micro service endpoint, ADR-32).

        Of all that serve a `shared` subject one answers a request; otherwise every one does, for itself.
        """

        def register(handler: RequestHandler) -> RequestHandler:
            self.endpoints.append(EndpointRule(name, subject, kind, handler, metadata or {}, shared))
            return handler

        return register

    def task(self, name: str) -> Callable[[RootTask], RootTask]:
        """Register a task that runs as long as the agent; if it ends or fails, the process ends non-zero."""

        def register(task: RootTask) -> RootTask:
            self.tasks[name] = task
            return task

        return register
