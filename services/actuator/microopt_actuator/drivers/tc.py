"""Bandwidth by the kernel's traffic control, in Mbit/s: rate and ceil of HTB classes, such as `eth0/1:10`.

Only classes that are there are changed; whoever made them decides what goes into them, and their place, bursts,
priority and quantum. A class gets at most what the classes above it may have (tc-htb(8)).
"""

import asyncio
import errno
import math
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar

from microopt.agent import Context
from microopt.errors import PermanentError
from microopt_actuator.drivers.base import Access, Driver, Write
from microopt_actuator.drivers.tc_capability import has_net_admin
from microopt_actuator.drivers.tc_class import HtbClass, mbps, rate_of
from microopt_actuator.drivers.tc_netlink import TcSocket, conversation, find, refusal
from microopt_actuator.drivers.tc_target import TcTarget, class_id, parse_target
from microopt_actuator.settings import ActuatorSettings

_TOLERANCE_MBPS: Final = 0.5 / 125_000
"""Half a byte/s: the kernel holds whole ones, and shows what it holds."""
_MIN_MBPS: Final = 8e-6
_MAX_MBPS: Final = 1e9
"""Far above any link, and far below the 2^64 bytes/s that the kernel can count."""

_T = TypeVar("_T")


class TcClasses:
    """Reads and writes the rates of HTB classes; its calls wait for the kernel's lock on network settings."""

    def read_mbps(self, target: str) -> float | None:
        """Return the rate in force, the least of the class's own and the ceils above it.

        `None` is a class whose rate and ceil differ: it has no one rate, and may borrow what it was not given.

        Raises:
            TemporaryError: there is no such class, interface or namespace now.
            PermanentError: the target is no HTB class.
        """
        one, above = self._on(parse_target(target), "reading", find)
        if one.rate != one.ceil:
            return None
        return mbps(min([one.rate, *(parent.ceil for parent in above)]))

    def plan_mbps(self, target: str, value: float) -> tuple[float, list[str], str]:
        """Return the rate that the class will have, what `write_mbps` would write, and which interface it is.

        Raises:
            TemporaryError: there is no such class, interface or namespace now.
            PermanentError: the value or target cannot be, or a class above is narrower.
        """
        where = parse_target(target)
        rate = _checked_rate(where, value)

        def look(tc: TcSocket, _: TcTarget) -> tuple[list[str], str]:
            now, wanted = _found(tc, where, rate)
            return [] if now == wanted else [_said(where, wanted)], tc.identity(where.interface)

        return mbps(rate), *self._on(where, "reading", look)

    def write_mbps(self, target: str, value: float) -> None:
        """Set rate and ceil of the class; what it has already is not written again.

        Raises:
            TemporaryError: there is no such class, interface or namespace now.
            PermanentError: as `plan_mbps`, or no right to write.
        """
        where = parse_target(target)
        rate = _checked_rate(where, value)

        def write(tc: TcSocket, _: TcTarget) -> None:
            now, wanted = _found(tc, where, rate)
            if now != wanted:
                tc.change(wanted)

        self._on(where, f"setting {mbps(rate):g} Mbit/s", write)

    def why_not_writable(self, target: str) -> str:
        """Return what would keep rates from being written, with the remedy; empty is nothing.

        Raises:
            TemporaryError: there is no such namespace now.
            PermanentError: the target is no class, or its namespace cannot be entered.
        """
        where = parse_target(target)
        doing = "looking whether it can be changed"
        try:
            is_able = has_net_admin(where.netns)
        except OSError as error:
            raise refusal(error, where, doing) from error
        return "" if is_able else str(refusal(OSError(errno.EPERM, os.strerror(errno.EPERM)), where, doing))

    def _on(self, target: TcTarget, doing: str, ask: Callable[[TcSocket, TcTarget], _T]) -> _T:
        try:
            with conversation(target.netns) as tc:
                return ask(tc, target)
        except OSError as error:
            raise refusal(error, target, doing) from error


class TcDriver:
    """The `Driver` for bandwidth by HTB, in Mbit/s.

    Args:
        thread: where the kernel is waited for. It must be a single one: a write that takes long is then followed
            by the next one, never overtaken.
    """

    name = "tc"
    unit = "Mbit/s"

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._classes = TcClasses()

    async def plan(self, target: str, value: float) -> Write:
        """Return the change of the class; see `TcClasses.plan_mbps`."""
        holds, steps, thing = await self._wait_for(self._classes.plan_mbps, target, value)
        return Write(target, value, holds, _TOLERANCE_MBPS, tuple(steps), thing)

    async def apply(self, write: Write) -> None:
        """Set rate and ceil; see `TcClasses.write_mbps`."""
        await self._wait_for(self._classes.write_mbps, write.target, write.value)

    async def read(self, target: str) -> float | None:
        """Return the Mbit/s in force; see `TcClasses.read_mbps`."""
        return await self._wait_for(self._classes.read_mbps, target)

    async def access(self, target: str) -> Access:
        """Return whether this process has the capability for it; see `TcClasses.why_not_writable`."""
        why = await self._wait_for(self._classes.why_not_writable, target)
        return Access(writable=not why, why=why)

    def absent(self, target: str) -> str:
        """Return a class of the same qdisc, of the last number that there is, or of the one before."""
        where = parse_target(target)
        last = where.handle | 0xFFFF
        return str(replace(where, handle=last if last != where.handle else last - 1))

    async def _wait_for(self, call: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


@asynccontextmanager
async def opened(_: ActuatorSettings, __: Context) -> AsyncIterator[Driver]:
    """Open the driver with a thread of its own; it has no settings."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="microopt-tc")
    try:
        yield TcDriver(thread)
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def _found(tc: TcSocket, target: TcTarget, rate: int) -> tuple[HtbClass, HtbClass]:
    """Return the class as it is and as it is to be, once it is known that it can have `rate`."""
    now, above = find(tc, target)
    for parent in above:
        if parent.ceil < rate:
            raise _parent_in_the_way(target, parent, rate)
    if now.rate == now.ceil == rate:
        return now, now
    try:
        return now, now.at(rate)
    except PermanentError as error:
        raise PermanentError(f"tc {target}: {error}") from None


def _checked_rate(target: TcTarget, value: float) -> int:
    if not (math.isfinite(value) and _MIN_MBPS <= value <= _MAX_MBPS):
        raise PermanentError(
            f"tc {target}: {value} Mbit/s is outside {_MIN_MBPS:g} to {_MAX_MBPS:g}, which the kernel takes; "
            "set the slice's bounds within"
        )
    return rate_of(value)


def _parent_in_the_way(target: TcTarget, parent: HtbClass, rate: int) -> PermanentError:
    return PermanentError(
        f"tc {target}: {mbps(rate):g} Mbit/s is more than the ceil of class {class_id(parent.handle)} above it "
        f"({mbps(parent.ceil):g}), which the class would not get; raise that ceil or lower the slice's ceiling"
    )


def _said(target: TcTarget, wanted: HtbClass) -> str:
    return (
        f"tc {target}: rate and ceil {mbps(wanted.rate):g} Mbit/s, "
        f"burst {wanted.burst} and cburst {wanted.cburst} bytes as before"
    )
