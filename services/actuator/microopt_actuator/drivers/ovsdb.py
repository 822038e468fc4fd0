"""The database of an Open vSwitch, over a connection that is made anew whenever it is lost.

A client of our own: the official one (the package `ovs`) blocks whoever waits in it, and logs what it cannot write
instead of refusing it; see docs/adr/0013-ovsdb-client.md.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from microopt.errors import MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.ovsdb_remote import Remote
from microopt_actuator.drivers.ovsdb_session import Session

BACKOFF_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0)


class Database:
    """Gives a session that works, if there is one.

    Args:
        remote: where the database is served.
        timeout_s: how long the server may take to answer, and whoever asks waits for a connection.
    """

    def __init__(self, remote: Remote, timeout_s: float) -> None:
        self._remote = remote
        self._timeout_s = timeout_s
        self._session: Session | None = None
        self._why: MicrooptError = self._no_answer()
        self._changed = asyncio.Event()
        self._log = structlog.get_logger("microopt.actuator.ovs").bind(remote=remote.text)

    async def session(self) -> Session:
        """Return the session, after a wait for one that is being made.

        Raises:
            TemporaryError: the server is away.
            PermanentError: it refuses us; the text names the remedy.
        """
        return self._session or await self._next_session()

    async def keep(self) -> None:
        """Connect, and again after every failure, for ever."""
        failures = 0
        while True:
            try:
                async with self._connected() as (session, listening):
                    failures = 0
                    self._session, self._why = session, self._no_answer()
                    self._changed.set()
                    self._log.info("connected")
                    await listening
            except MicrooptError as error:
                self._lose(error)
            except Exception as error:  # a mistake here must not leave the driver without anybody who connects
                self._log.exception("connection_crashed")
                self._lose(TemporaryError(f"ovs {self._remote.text}: {error!r}"))
            failures += 1
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])

    async def _next_session(self) -> Session:
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._session is None:
                    if isinstance(self._why, PermanentError):
                        raise PermanentError(str(self._why))
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TemporaryError(str(self._why)) from None
        return self._session

    def _lose(self, error: MicrooptError) -> None:
        if str(error) != str(self._why):
            self._log.warning("not_connected", error=str(error))
        self._why, self._session = error, None
        self._changed.set()

    def _no_answer(self) -> TemporaryError:
        return TemporaryError(f"ovs {self._remote.text}: no answer within {self._timeout_s:g} s")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Session, asyncio.Task[None]]]:
        try:
            async with asyncio.timeout(self._timeout_s):
                streams = await self._remote.connect()
        except TimeoutError:
            raise self._no_answer() from None
        except OSError as error:
            raise self._refusal(error) from None
        session = Session(self._remote.text, streams, self._timeout_s)
        listening = asyncio.create_task(session.listen())
        try:
            await session.begin()
            yield session, listening
        finally:
            session.end("closed")
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _refusal(self, error: OSError) -> MicrooptError:
        said = f"ovs {self._remote.text}: {error.strerror or error}"
        if isinstance(error, PermissionError):
            return PermanentError(
                f"{said}; let the actuator's user write to the socket, which root may by default"
            )
        if isinstance(error, FileNotFoundError | ConnectionError):
            return TemporaryError(f"{said}; is ovsdb-server running? If so, check [actuator.ovs] remote")
        return TemporaryError(said)
