"""Running an agent: one connection, one TaskGroup of named tasks, an orderly end."""

import asyncio
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import nats.errors
import nats.micro
import structlog
from nats.micro.request import Request, ServiceError
from nats.micro.service import EndpointConfig, Service, ServiceConfig

from microopt import codec, log, streams
from microopt.agent import Agent, Context, EndpointRule
from microopt.bus import Bus, header_text
from microopt.cancel import cancel
from microopt.consume import Consumer, Subscription
from microopt.errors import ConfigError, MicrooptError, PermanentError, TemporaryError
from microopt.http import TICK_S, Health, HttpServer
from microopt.metrics import AgentMetrics
from microopt.settings import HttpSettings, LogSettings, NatsSettings, Settings
from microopt.watch import Watch, Watcher

T = TypeVar("T")
Work = Callable[[], Awaitable[None]]

EXIT_CONFIG: Final = 2
DRAIN_S: Final = 10.0
DEFAULT_HTTP_PORT: Final = {
    "collector": 9601,
    "forecaster": 9602,
    "router": 9603,
    "optimizer": 9604,
    "actuator": 9605,
    "auditor": 9606,
    "tuner": 9607,
}


def run(agent: Agent, settings: Settings | None = None) -> None:
    """Run `agent` until SIGTERM or SIGINT; exit non-zero when a task died or the settings are wrong."""
    try:
        settings = settings or Settings.load(own_tables=(agent.name,))
        log.configure(settings.table("log", LogSettings), agent=agent.name)
        asyncio.run(serve(agent, settings))
    except ConfigError as error:
        sys.stderr.write(f"microopt-{agent.name}: {error}\n")
        sys.exit(EXIT_CONFIG)
    except (MicrooptError, nats.errors.Error) as error:
        structlog.get_logger("microopt").error("agent_died", causes=[repr(error)])
        sys.exit(1)
    except BaseExceptionGroup as group:
        structlog.get_logger("microopt").error("agent_died", causes=[repr(e) for e in group.exceptions])
        sys.exit(1)


async def serve(agent: Agent, settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Run `agent` in this event loop until `stop`, or a signal when no event is given.

    Raises:
        ConfigError: the settings are wrong, or a port is taken.
        BaseExceptionGroup: one of the agent's tasks died.
    """
    stop = stop or _stop_on_signals()
    metrics = AgentMetrics().with_process_metrics()
    health = Health()
    health.wait_for("bus", "not connected to the bus")
    http = _http(agent, settings, metrics, health)
    heart = asyncio.create_task(_beat(health), name="heartbeat")
    try:
        bus = await _unless_stopped(Bus.connect(settings.table("nats", NatsSettings), agent.name, metrics), stop)
        if bus is None:
            return
        async with bus:
            await streams.provision(bus.js)
            health.wait_for("agent", "starting")
            health.done("bus")
            health.check(lambda: None if bus.nc.is_connected else "not connected to the bus")
            context = Context(bus, settings, metrics, structlog.get_logger(f"microopt.{agent.name}"))
            context.log.info("agent_started", version=agent.version, http_port=http.port)
            async with agent.lifespan(context):
                await _Runner(agent, context, health, stop).run()
            context.log.info("agent_stopped")
    finally:
        heart.cancel()
        http.close()


class _Runner:
    """The tasks of one agent."""

    def __init__(self, agent: Agent, context: Context, health: Health, stop: asyncio.Event) -> None:
        self._agent = agent
        self._context = context
        self._health = health
        self._stop = stop

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            start = self._guard_in(group)
            watchers = [
                Watcher(self._context.bus, self._watch(index), self._stop)
                for index in range(len(self._agent.specs))
            ]
            draining = [start(f"watch:{w.name}", w.run) for w in watchers]
            for watcher in watchers:
                self._health.wait_for(watcher.name, f"{watcher.name} not read yet")
                if await _unless_stopped(watcher.synced.wait(), self._stop):
                    self._health.done(watcher.name)
            consumers = [Consumer(self._context.bus, s, self._stop) for s in self._subscriptions()]
            self._context.opened.update(
                {rule.kind: c.opened for rule, c in zip(self._agent.messages, consumers, strict=True)}
            )
            draining += [start(f"consume:{c.name}", c.run) for c in consumers]
            service = await self._serve_endpoints()
            # Told to stop while desired state was read: what must not begin without it does not begin.
            tasks = {} if self._stop.is_set() else self._agent.tasks
            running = [start(f"task:{name}", partial(task, self._context)) for name, task in tasks.items()]
            start("ready", partial(self._become_ready, consumers))
            await self._stop.wait()
            if service:
                await service.stop()
            await cancel(running)
            await self._drain(draining)

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let consumers and watchers finish what they have in hand, but not for ever."""
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=DRAIN_S)
            for task in unfinished:
                self._context.log.error("task_cut_off", task=task.get_name())
            await cancel(unfinished)

    def _guard_in(self, group: asyncio.TaskGroup) -> Callable[[str, Work], asyncio.Task[None]]:
        def start(name: str, work: Work) -> asyncio.Task[None]:
            return group.create_task(self._guarded(name, work), name=name)

        return start

    async def _guarded(self, name: str, work: Work) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._context.log.exception("task_died", task=name)
            raise
        if not self._stop.is_set() and name != "ready":
            raise RuntimeError(f"task {name} ended, although it should run as long as the agent")

    async def _become_ready(self, consumers: list[Consumer]) -> None:
        for consumer in consumers:
            self._health.wait_for(consumer.name, f"{consumer.name} has not caught up")
        self._health.done("agent")
        for consumer in consumers:
            await _unless_stopped(consumer.caught_up.wait(), self._stop)
            self._health.done(consumer.name)

    def _watch(self, index: int) -> Watch:
        rule = self._agent.specs[index]
        return Watch(rule.bucket, rule.kind, lambda key, value: rule.handler(key, value, self._context))

    def _subscriptions(self) -> list[Subscription]:
        return [
            Subscription(
                kind=rule.kind,
                handler=partial(_with_context, rule.handler, self._context),
                durable=f"{self._agent.name}-{rule.kind.__name__}" if rule.durable else None,
                start=rule.start,
                max_deliver=rule.max_deliver,
            )
            for rule in self._agent.messages
        ]

    async def _serve_endpoints(self) -> Service:
        config = ServiceConfig(
            name=f"microopt-{self._agent.name}",
            version=self._agent.version,
            description=self._agent.description or f"microopt {self._agent.name}",
        )
        service = await nats.micro.add_service(self._context.bus.nc, config)
        for rule in self._agent.endpoints:
            handler = partial(_answer, rule, self._context)
            await service.add_endpoint(
                EndpointConfig(
                    name=rule.name,
                    subject=rule.subject,
                    handler=handler,
                    metadata=rule.metadata,
                    # Without one it would be "q", and of all who serve the subject one would answer.
                    queue_group=None if rule.shared else f"alone-{secrets.token_hex(8)}",
                )
            )
        return service


async def _with_context(
    handler: Callable[[Any, Context], Awaitable[None]], context: Context, message: Any, sequence: int
) -> None:
    await handler(message, replace(context, sequence=sequence))


async def _answer(rule: EndpointRule, context: Context, request: Request) -> None:
    """Answer one request; the caller learns what was wrong, but never the inside of a crash.

    Raises:
        ServiceError: there is no answer; the service replies so, and counts it in its statistics (ADR-32).
    """
    kind, metrics = rule.kind.__name__, context.metrics
    try:
        with metrics.handle_s.labels(kind).time():
            question = codec.decode(request.data, rule.kind, origin=request.subject)
            answer = codec.encode(await rule.handler(question, context))
    except PermanentError as error:
        metrics.messages.labels(kind, "dead").inc()
        await context.bus.dead_letter(request.data, subject=request.subject, error=error, kind=kind)
        raise ServiceError("400", header_text(str(error))) from error
    except TemporaryError as error:
        metrics.messages.labels(kind, "retried").inc()
        raise ServiceError("503", header_text(str(error))) from error
    except MicrooptError as error:
        metrics.messages.labels(kind, "retried").inc()
        raise ServiceError("422", header_text(str(error))) from error
    except Exception as error:
        context.log.exception("endpoint_failed", endpoint=rule.name)
        metrics.messages.labels(kind, "retried").inc()
        raise ServiceError("500", "internal error; see the worker's log") from error
    else:
        metrics.messages.labels(kind, "ok").inc()
        await request.respond(answer)


def _http(agent: Agent, settings: Settings, metrics: AgentMetrics, health: Health) -> HttpServer:
    http = settings.table("http", HttpSettings)
    port = DEFAULT_HTTP_PORT.get(agent.name, 0) if http.port is None else http.port
    return HttpServer(http.host, port, metrics.registry, health)


async def _beat(health: Health) -> None:
    while True:
        health.tick()
        await asyncio.sleep(TICK_S)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """Return what `work` gives, or None when `stop` comes first."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stopped.cancel()
        task.cancel()
