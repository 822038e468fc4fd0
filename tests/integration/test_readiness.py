"""When an agent is ready, and that it can be told to stop before it is."""

import asyncio
import gc
import urllib.error
import urllib.request
from contextlib import asynccontextmanager

from microopt import streams
from microopt.agent import Agent
from microopt.messages import Telemetry
from microopt.runtime import serve
from microopt.settings import Settings
from microopt.specs import Route
from microopt.testing import eventually, running


def readiness(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


async def becomes(port: int, status: int, text: str) -> None:
    await eventually(lambda: _is(port, status, text))


async def _is(port: int, status: int, text: str) -> bool:
    return await asyncio.to_thread(readiness, port) == (status, f"{text}\n")


async def test_an_agent_is_ready_only_when_it_has_opened_read_and_caught_up(bus, broker, telemetry, unused_port):
    opened, read, handled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def lifespan(_):
        await opened.wait()
        yield

    agent = Agent("slow", lifespan=lifespan)

    @agent.watch(streams.ROUTES, Route)
    async def on_route(*_):
        await read.wait()

    @agent.on(Telemetry)
    async def on_telemetry(*_):
        await handled.wait()

    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="peak"))
    await bus.publish(telemetry(0))
    async with running(agent, broker.url, http={"port": unused_port}):
        await becomes(unused_port, 503, "starting")
        opened.set()
        await becomes(unused_port, 503, "starting; routes not read yet")
        read.set()
        await becomes(unused_port, 503, "follow:Telemetry has not caught up")
        handled.set()
        await becomes(unused_port, 200, "ok")


async def test_an_agent_whose_broker_went_away_is_not_ready_until_it_is_back(bus, broker, unused_port):
    async with running(Agent("patient"), broker.url, http={"port": unused_port}):
        await becomes(unused_port, 200, "ok")
        await broker.kill()
        await becomes(unused_port, 503, "not connected to the bus")
        await broker.start()
        await becomes(unused_port, 200, "ok")


async def test_an_agent_that_is_told_to_stop_while_it_opens_ends_without_having_begun(broker):
    stop, begun = asyncio.Event(), []

    @asynccontextmanager
    async def lifespan(_):
        stop.set()
        yield
        begun.append("closed")

    agent = Agent("hasty", lifespan=lifespan)
    agent.watch(streams.ROUTES, Route)(None)
    agent.on(Telemetry)(None)

    @agent.task("never")
    async def never(_):
        begun.append("begun")

    settings = Settings({"nats": {"url": broker.url}, "http": {"port": 0}}, origin="test")
    await asyncio.wait_for(serve(agent, settings, stop), 20)
    gc.collect()  # a coroutine that nobody awaited would be reported now, as an error
    assert begun == ["closed"]
