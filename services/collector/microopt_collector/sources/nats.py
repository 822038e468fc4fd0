"""Measurements from a core NATS subject, as JSON of any shape."""

import asyncio
import time
from typing import Annotated

from msgspec import Meta
from nats.aio.client import Client
from nats.aio.msg import Msg

from microopt.messages import Name
from microopt_collector.sources.base import Sink, hand_over
from microopt_collector.sources.mapping import FieldMap, Mapper

Subject = Annotated[
    str, Meta(pattern=r"^([^\s.>]+\.)*([^\s.>]+|>)$", description="a NATS subject, wildcards allowed")
]


class NatsSourceSettings(
    FieldMap, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="nats"
):
    """Where to listen, and which field holds what."""

    subject: Subject
    name: Name = "nats"

    @property
    def where(self) -> str:
        """Return the subject."""
        return self.subject


class NatsSource:
    """Listens to one subject; the connection subscribes again by itself when the server was away."""

    def __init__(self, settings: NatsSourceSettings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._mapper = Mapper(settings, settings.name, separator=".")

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._settings.name

    async def run(self, sink: Sink) -> None:
        """Map each message, and reject those that are no measurement of a known slice."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def take(message: Msg) -> None:
            try:
                self._take(message, sink)
            except Exception as error:  # the client would only log it
                if not failed.done():
                    failed.set_exception(error)

        # A callback, for the client's iterator makes a task for each message.
        subscription = await self._client.subscribe(self._settings.subject, cb=take)
        sink.up(True)
        try:
            await failed
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    def _take(self, message: Msg, sink: Sink) -> None:
        began = time.perf_counter()
        found = self._mapper.read(message.data, message.subject, time.time())
        hand_over(found, sink, message.data, message.subject)
        sink.took(time.perf_counter() - began)
