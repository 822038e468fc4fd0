"""Pulling a stream's messages, in order, across restarts of the server: the ground of `consume` and `watch`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo
from nats.js.errors import APIError, NotFoundError

from microopt import streams
from microopt.bus import Bus
from microopt.errors import ConfigError

Start = Literal["last", "all", "new"]
Deliver = Callable[[Msg], Awaitable[None]]

FETCH_S: Final = 1.0
HEARTBEAT_S: Final = 0.25  # the server refuses more than half of the fetch
BATCH: Final = 64
ACK_WAIT_S: Final = 30.0
INACTIVE_S: Final = 60.0
REOPEN_WAIT_S: Final = 0.5

_POLICY = {"last": DeliverPolicy.LAST_PER_SUBJECT, "all": DeliverPolicy.ALL, "new": DeliverPolicy.NEW}
_LOST = (nats.errors.Error, APIError)

Pull = JetStreamContext.PullSubscription


@dataclass(frozen=True)
class Origin:
    """Where messages come from: a durable consumer that is shared by name, or one of this process alone."""

    stream: str
    subject: str
    start: Start = "last"
    durable: str | None = None


class Puller:
    """Hands each message to `deliver`, which acknowledges it; made anew when the server lost consumer or store.

    The owner puts the sequences of messages that shall come again into `postponed`.
    """

    def __init__(self, bus: Bus, origin: Origin, deliver: Deliver, stop: asyncio.Event) -> None:
        self._bus = bus
        self._origin = origin
        self._deliver = deliver
        self._stop = stop
        self._last_sequence = 0
        self._created: datetime | None = None
        self._log = structlog.get_logger("microopt.pull").bind(stream=origin.stream, durable=origin.durable)
        self.postponed: set[int] = set()
        self.opened = asyncio.Event()
        """Set once there is a consumer: nothing that is stored afterwards will be missed."""
        self.caught_up = asyncio.Event()
        """Set once everything that was stored when pulling began has been delivered."""

    async def run(self) -> None:
        """Deliver until told to stop."""
        while not self._stop.is_set():
            try:
                pull = await self._open()
            except (*_LOST, ConfigError) as error:  # a server that just begins may not take streams yet
                self._log.warning("consumer_not_opened", error=str(error) or repr(error))
                await asyncio.sleep(REOPEN_WAIT_S)
                continue
            try:
                await self._pump(pull)
            finally:
                await self._close(pull)

    async def _open(self) -> Pull:
        origin = self._origin
        config = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,  # counted by the owner, so that the last failure can be kept with its reason
            deliver_policy=_POLICY[origin.start],
            inactive_threshold=None if origin.durable else INACTIVE_S,
        )
        info = await self._stream()
        self._note_creation(info.created)
        if not origin.durable and 0 < self._last_sequence <= info.state.last_seq:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = min(self.postponed, default=self._last_sequence + 1)
        pull = await self._bus.js.pull_subscribe(
            origin.subject, durable=origin.durable, stream=origin.stream, config=config
        )
        self.opened.set()
        # Nothing is on its way yet, as it would be with a push consumer: this one waits to be asked.
        if (await pull.consumer_info()).num_pending == 0:
            self.caught_up.set()
        return pull

    async def _stream(self) -> StreamInfo:
        """Return the stream as it is, made again with all others when the server lost its store."""
        name = self._origin.stream
        try:
            return await self._bus.js.stream_info(name)
        except NotFoundError:
            self._log.error("stream_gone")
            await streams.provision(self._bus.js)
            return await self._bus.js.stream_info(name)

    def _note_creation(self, created: datetime | None) -> None:
        """Forget what was read of a former stream of this name: its sequences mean nothing in this one."""
        if self._created not in (None, created):
            self._log.warning("stream_made_anew", read_of_the_former=self._last_sequence)
            self._last_sequence = 0
            self.postponed.clear()
        self._created = created

    async def _pump(self, pull: Pull) -> None:
        waiting = 0
        while not self._stop.is_set():
            try:
                messages = await self._fetch(pull, batch=max(1, min(waiting, BATCH)))
            except nats.errors.TimeoutError:  # also FetchTimeoutError: heartbeats came, messages did not
                waiting = 0
                if await self._is_gone(pull):
                    return
                continue
            except _LOST as error:
                self._log.warning("consumer_lost", error=str(error) or repr(error))
                await asyncio.sleep(REOPEN_WAIT_S)
                return
            for message in messages:
                if self._stop.is_set():
                    await self._return(message)
                    continue
                await self._deliver(message)
                self._last_sequence = max(self._last_sequence, message.metadata.sequence.stream)
                waiting = message.metadata.num_pending
            if messages and waiting == 0:
                self.caught_up.set()

    async def _fetch(self, pull: Pull, batch: int) -> list[Msg]:
        # `batch` is 1 unless more are known to wait: a lingering fetch waits for all that it asked for.
        if self._origin.durable:  # not cut off by a stop: what the server has sent would wait for ACK_WAIT_S
            return await pull.fetch(batch, timeout=FETCH_S, heartbeat=HEARTBEAT_S)
        fetch = asyncio.ensure_future(pull.fetch(batch, timeout=FETCH_S, heartbeat=HEARTBEAT_S))
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({fetch, stop}, return_when=asyncio.FIRST_COMPLETED)
            return await fetch if fetch.done() else []
        finally:
            fetch.cancel()
            stop.cancel()
            await asyncio.gather(fetch, stop, return_exceptions=True)  # whatever a fetch that is cut off says

    async def _return(self, message: Msg) -> None:
        """Give a message back at once, for the next of this name."""
        try:
            await message.nak()
        except nats.errors.Error as error:
            self._log.warning("message_not_returned", error=str(error) or repr(error))

    async def _is_gone(self, pull: Pull) -> bool:
        if not self._bus.nc.is_connected:
            return False  # ask again after the next fetch; waiting for an answer would only delay an end
        try:
            await pull.consumer_info()
        except NotFoundError:
            self._log.warning("consumer_gone", resume_after=self._last_sequence)
            return True
        except _LOST:
            return False
        return False

    async def _close(self, pull: Pull) -> None:
        if not self._bus.nc.is_connected:
            return  # the server removes it after INACTIVE_S
        try:
            name = (await pull.consumer_info()).name
            await pull.unsubscribe()
            if not self._origin.durable:
                await self._bus.js.delete_consumer(self._origin.stream, name)
        except _LOST as error:
            self._log.debug("consumer_not_removed", error=str(error) or repr(error))
