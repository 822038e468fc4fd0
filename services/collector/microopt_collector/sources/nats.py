"""Measurements from a core NATS subject, as JSON of any shape."""

import asyncio
import time
from typing import Annotated

from msgspec import Meta
from nats.aio.client import Client
from nats.aio.msg import Msg

from microopt.messages import Name
from microopt_collector.sources.base import Sink, take
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

        async def heard(message: Msg) -> None:
            take(
                lambda: self._mapper.read(message.data, message.subject, time.time()),
                sink,
                message.data,
                subject=message.subject,
            )

        # A callback, for the client's iterator makes a task for each message.
        subscription = await self._client.subscribe(self._settings.subject, cb=heard)
        sink.up(True)
        try:
            await asyncio.Event().wait()
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()
