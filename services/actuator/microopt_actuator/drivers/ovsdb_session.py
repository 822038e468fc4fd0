"""One connection to a database: requests, their answers, and a replica that its notices keep."""

import asyncio
import itertools
from typing import Any, Final

import msgspec
from msgspec import Raw

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.ovs_rows import DATABASE, MONITORED, Rows
from microopt_actuator.drivers.ovsdb_remote import Streams
from microopt_actuator.drivers.ovsdb_wire import (
    Message,
    Operation,
    Outcome,
    Splitter,
    echo_reply,
    outcomes,
    request,
)

_READ_BYTES: Final = 1 << 16
_MAX_AGE_S: Final = 0.01
"""A replica that the server is known to have kept up so lately is as good as asking it."""

_Updates = dict[str, dict[str, dict[str, Any]]]
_Answer = asyncio.Future[Message | str]
"""A text says why there is none."""


class Session:
    """A connection, which ends at the first error; whoever waits for an answer then gets that error.

    Args:
        remote: how errors name the database.
        streams: the connection.
        timeout_s: how long an answer may take; a server that takes longer counts as away.
    """

    def __init__(self, remote: str, streams: Streams, timeout_s: float) -> None:
        self.rows = Rows()
        self._remote = remote
        self._reader, self._writer = streams
        self._timeout_s = timeout_s
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Answer] = {}
        self._configured: dict[asyncio.Future[str | None], int] = {}
        """Those who wait until ovs-vswitchd has a configuration."""
        self._asked: _Answer | None = None
        """The latest answer that is waited for, or was, and when it was asked for."""
        self._asked_at_s = 0.0
        self._ended: str | None = None

    async def listen(self) -> None:
        """Take what the server says, until the connection ends.

        Raises:
            TemporaryError: it has ended.
        """
        splitter = Splitter()
        try:
            while data := await self._reader.read(_READ_BYTES):
                for message in splitter.feed(data):
                    self._take(message)
            raise TemporaryError("the server hung up")
        except OSError as error:
            raise self.end(str(error.strerror or error)) from None
        except (TemporaryError, msgspec.DecodeError) as error:
            raise self.end(str(error)) from None

    def end(self, why: str) -> TemporaryError:
        """Close the connection, tell all who wait, and return the error."""
        if self._ended is None:
            self._ended = f"ovs {self._remote}: {why}; what was under way may have been done or not"
            self._writer.transport.abort()
            for answer in list(self._pending.values()):
                if not answer.done():
                    answer.set_result(self._ended)
            for waiter in self._configured:
                if not waiter.done():
                    waiter.set_result(self._ended)
        return TemporaryError(self._ended)

    async def begin(self) -> None:
        """Fill the replica, and have it kept.

        Raises:
            TemporaryError: the server is away.
            PermanentError: it serves something else than a switch's database.
        """
        answer = await self._ask("monitor", [DATABASE, None, MONITORED])
        if answer.error is not None:
            raise PermanentError(
                f"ovs {self._remote}: no database of Open vSwitch: {_shown(answer.error)}; "
                "check [actuator.ovs] remote"
            )
        self.rows.take(msgspec.json.decode(answer.result, type=_Updates))

    async def fresh(self) -> Rows:
        """Return the replica, once it is known to show what was true within the last 10 ms or later.

        The server sends changes before it answers what was asked after them.

        Raises:
            TemporaryError: the server is away.
        """
        is_old = asyncio.get_running_loop().time() - self._asked_at_s > _MAX_AGE_S
        await self._answer(self._send("echo", []) if self._asked is None or is_old else self._asked)
        return self.rows

    async def transact(self, operations: list[Operation]) -> list[Outcome | None]:
        """Return what became of each operation; either all were done, or one of them has an error and none was.

        Raises:
            TemporaryError: the server is away.
            PermanentError: it does not understand the request.
        """
        answer = await self._ask("transact", [DATABASE, *operations])
        if answer.error is not None:
            raise PermanentError(f"ovs {self._remote}: the transaction is refused: {_shown(answer.error)}")
        return outcomes(answer.result)

    async def configured(self, number: int, within_s: float) -> None:
        """Wait until ovs-vswitchd has taken over the configuration `number`.

        Raises:
            TemporaryError: it has not in time, or the server is away.
        """
        if self.rows.cur_cfg >= number:
            return
        if self._ended is not None:
            raise TemporaryError(self._ended)
        waiter: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._configured[waiter] = number
        try:
            async with asyncio.timeout(within_s):
                error = await waiter
        except TimeoutError:
            raise TemporaryError(
                f"ovs {self._remote}: ovs-vswitchd has not taken over configuration {number} within {within_s:g} "
                f"s (it has {self.rows.cur_cfg}): the database is ahead of the switch; is ovs-vswitchd running?"
            ) from None
        finally:
            del self._configured[waiter]
        if error is not None:
            raise TemporaryError(error)

    def _send(self, method: str, params: list[Any]) -> _Answer:
        if self._ended is not None:
            raise TemporaryError(self._ended)
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        answer: _Answer = loop.create_future()
        self._pending[number] = self._asked = answer
        self._asked_at_s = loop.time()
        answer.add_done_callback(lambda _: self._pending.pop(number, None))
        self._writer.write(request(number, method, params))
        return answer

    async def _ask(self, method: str, params: list[Any]) -> Message:
        return await self._answer(self._send(method, params))

    async def _answer(self, answer: _Answer) -> Message:
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await asyncio.shield(answer)  # others may wait for the same
        except TimeoutError:
            raise self.end(f"no answer within {self._timeout_s:g} s") from None
        if isinstance(said, str):
            raise TemporaryError(said)
        return said

    def _take(self, message: Message) -> None:
        if message.method == "update":
            _, updates = msgspec.json.decode(message.params, type=tuple[Raw, _Updates])
            before = self.rows.cur_cfg
            self.rows.take(updates)
            if self.rows.cur_cfg != before:
                self._tell_configured()
        elif message.method == "echo":
            self._writer.write(echo_reply(message))
        elif (answer := self._pending.get(message.id)) is not None and not answer.done():
            answer.set_result(message)

    def _tell_configured(self) -> None:
        for waiter, number in self._configured.items():
            if number <= self.rows.cur_cfg and not waiter.done():
                waiter.set_result(None)


def _shown(error: Any) -> str:
    return str(error.get("details") or error.get("error")) if isinstance(error, dict) else str(error)
