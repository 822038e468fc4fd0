import asyncio
from contextlib import suppress

import pytest

from microopt import cancel as module
from microopt.agent import Agent
from microopt.cancel import cancel
from microopt.testing import running


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "AGAIN_S", 0.05)


async def deaf(times: int, heard: list[int]) -> None:
    """Go on after `times` cancellations, as `asyncio.wait_for` of Python 3.11 may."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        heard.append(len(heard))
        if len(heard) > times:
            raise asyncio.CancelledError


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again():
    heard: list[int] = []
    task = asyncio.create_task(deaf(2, heard))
    await asyncio.sleep(0)
    await cancel([task])
    assert task.cancelled()
    assert len(heard) == 3


async def test_tasks_that_have_ended_or_fail_at_their_end_hold_nothing_up():
    async def fails_at_its_end():
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError("as expected")

    done, failing = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(fails_at_its_end())
    await done
    await cancel([])
    await cancel([done, failing])
    assert isinstance(failing.exception(), ZeroDivisionError)


async def test_an_agent_ends_although_its_task_swallows_a_cancellation(broker):
    agent, heard = Agent("deaf"), []

    @agent.task("deaf")
    async def task(_):
        await deaf(1, heard)

    async with running(agent, broker.url) as process:
        await asyncio.sleep(0.3)
        await asyncio.wait_for(process.stop(), 20)
    assert len(heard) == 2
