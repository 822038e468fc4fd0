"""Storing many messages at once: one inbox for all acknowledgements, one write to the socket for many messages.

nats-py's own `publish_async` gives control away after each message, so that each is a write to the socket of its
own; that took three times as long.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

Fate = Literal["new", "duplicate", "unanswered", "refused", "overtaken"]
"""`overtaken`: the subject's last message is not the one that was expected there."""
Part = tuple[str, bytes, dict[str, str]]
"""Subject, payload, headers."""

_STATUS: Final = "Status"  # of "no responders": there is no stream
_WRONG_LAST: Final = (10_071, 10_164)
"""The server's error codes where another sequence was expected than is there."""


class _Ack(Struct, frozen=True):
    """What JetStream answers to a publication."""

    duplicate: bool = False
    seq: int = 0
    error: dict[str, str | int] | None = None


class Stored(Struct, frozen=True):
    """What became of a message, and where it stands in its stream, if it does."""

    fate: Fate
    sequence: int = 0


class Together:
    """Sends waves of messages to JetStream; several may wait at the same time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._serial = 0
        self._waves: dict[int, _Wave] = {}

    async def store(self, parts: Sequence[Part], within_s: float) -> list[Stored]:
        """Send `parts` in their order and return what became of each.

        Raises:
            nats.errors.Error: the connection does not take them; what was sent before may be stored.
        """
        if not self._inbox:
            inbox = self._client.new_inbox()
            await self._client.subscribe(f"{inbox}.*.*", cb=self._hear)
            self._inbox = inbox
        self._serial += 1
        wave = self._waves[self._serial] = _Wave(len(parts))
        reply = f"{self._inbox}.{self._serial}."
        try:
            for index, (subject, data, headers) in enumerate(parts):
                await self._client.publish(subject, data, reply=f"{reply}{index}", headers=headers)
            await asyncio.wait_for(wave.answered.wait(), within_s)
        except TimeoutError:
            pass  # what is stored says which
        finally:
            del self._waves[int(reply.split(".")[-2])]
        return wave.stored

    async def _hear(self, message: Msg) -> None:
        *_, serial, index = message.subject.split(".")
        wave = self._waves.get(int(serial))
        if wave is not None:
            wave.settle(int(index), _stored(message))


class _Wave:
    """What became of messages that were sent together."""

    def __init__(self, size: int) -> None:
        self.stored = [Stored("unanswered")] * size
        self.answered = asyncio.Event()
        self._left = size

    def settle(self, index: int, stored: Stored) -> None:
        self.stored[index] = stored
        self._left -= 1
        if not self._left:
            self.answered.set()


def _stored(message: Msg) -> Stored:
    if message.headers and _STATUS in message.headers:
        return Stored("refused")
    try:
        ack = msgspec.json.decode(message.data, type=_Ack)
    except msgspec.MsgspecError:
        return Stored("refused")
    if ack.error is not None:
        return Stored("overtaken" if ack.error.get("err_code") in _WRONG_LAST else "refused")
    return Stored("duplicate" if ack.duplicate else "new", ack.seq)
