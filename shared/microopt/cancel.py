"""Ending tasks for certain."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

AGAIN_S: Final = 2.0


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until all have ended, whatever they raise.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, and with it each request on the bus, swallows a
    cancellation that comes together with the answer.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
