"""Measurements from a core NATS subject, as JSON of any shape."""

import time

from nats.aio.client import Client
from nats.aio.msg import Msg

from microopt.errors import PermanentError
from microopt.messages import Name
from microopt_collector.sources.base import Sink
from microopt_collector.sources.mapping import FieldMap, Subject, read


class NatsSourceSettings(
    FieldMap, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="nats"
):
    """Where to listen, and which field holds what."""

    subject: Subject
    name: Name = "nats"


class NatsSource:
    """Listens to one subject; the connection subscribes again by itself when the server was away."""

    def __init__(self, settings: NatsSourceSettings, client: Client) -> None:
        self._settings = settings
        self._client = client

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._settings.name

    async def run(self, sink: Sink) -> None:
        """Map each message, and reject those that are no measurement of a known slice."""
        subscription = await self._client.subscribe(self._settings.subject)
        try:
            async for message in subscription.messages:
                await self._handle(message, sink)
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _handle(self, message: Msg, sink: Sink) -> None:
        try:
            await sink.emit(read(message.data, self._settings, source=self.name, now_s=time.time()))
        except PermanentError as error:
            await sink.reject(message.data, subject=message.subject, error=error)
