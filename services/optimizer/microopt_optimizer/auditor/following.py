"""Reading on in a stream, again and again, from where the last reading ended."""

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

import structlog
from nats.aio.msg import Msg

from microopt import codec, subjects
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, MicrooptError
from microopt.replay import replay
from microopt.streams import STREAM_OF

T = TypeVar("T")


class Following(Generic[T]):
    """Reads one message type's stream to its end whenever it is asked to.

    A consumer hands over messages as they come; who must know that everything up to now was read, as before an
    interval is judged, reads like this.
    """

    def __init__(self, bus: Bus, kind: type[T], subject: str, *, since: datetime) -> None:
        self._bus = bus
        self._kind = kind
        self._stream = STREAM_OF[kind]
        self._subject = subject
        self._since = since
        self._next: int | None = None
        self._created: datetime | None = None
        self._log = structlog.get_logger("microopt.auditor").bind(stream=self._stream)

    async def read(self, take: Callable[[T, Msg.Metadata], None]) -> None:
        """Hand what was stored since the last reading to `take`, in order, each with its metadata.

        What cannot be used is put on the dead-letter subject, and so is what `take` fails at: it would fail again.
        After an error, the next reading goes on behind the last message that was taken.

        Raises:
            TemporaryError: a message was lost on its way.
            nats.errors.Error: the server is gone.
        """
        info = await self._bus.js.stream_info(self._stream)
        if self._created not in (None, info.created):
            self._log.warning("stream_made_anew", read_of_the_former=self._next)
            self._next = None  # sequences of the former mean nothing in this one
        self._created = info.created
        last = info.state.last_seq
        if self._next is not None and self._next > last:
            return
        start = self._since if self._next is None else self._next
        async for batch in replay(self._bus, self._stream, self._subject, start=start, last=last):
            for message in batch:
                await self._hand_over(message, take)
                self._next = message.metadata.sequence.stream + 1
        self._next = last + 1

    async def _hand_over(self, message: Msg, take: Callable[[T, Msg.Metadata], None]) -> None:
        kind = self._kind.__name__
        try:
            value = codec.decode(message.data, self._kind, origin=message.subject)
            if (own := subjects.of(value)) != message.subject:
                raise InvalidMessageError(f"{message.subject}: holds a {kind} that belongs on {own}")
            take(value, message.metadata)
        except Exception as error:
            if not isinstance(error, MicrooptError):
                self._log.exception("message_not_taken", subject=message.subject)
            sequence = message.metadata.sequence.stream
            await self._bus.dead_letter(
                message.data, subject=message.subject, error=error, kind=kind, stream_sequence=sequence
            )
