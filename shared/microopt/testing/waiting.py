"""Waiting for something to become true, since agents answer in their own time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    probe: Callable[[], T | Awaitable[T]], *, within_s: float = 20.0, every_s: float = 0.02, what: str = ""
) -> T:
    """Return the first truthy value of `probe`, called until `within_s` have passed.

    Raises:
        AssertionError: it never was; the text quotes its last value.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        found = probe()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"{what or probe} was still {value!r} after {within_s:g} s")
        await asyncio.sleep(every_s)
