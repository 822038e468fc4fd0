"""Measurements from an MQTT 3.1.1 broker, as JSON of any shape."""

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, cast

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from msgspec import Meta
from paho.mqtt.reasoncodes import ReasonCode

from microopt.errors import TemporaryError
from microopt.messages import Name
from microopt_collector.sources import files
from microopt_collector.sources.base import Rejected, Sink, take
from microopt_collector.sources.mapping import FieldMap, Found, Mapper

Topic = Annotated[
    str,
    Meta(
        pattern=r"^(([^\x00+#/]*|\+)/)*([^\x00+#/]+|\+|#)$",
        max_length=65_535,
        description="an MQTT topic filter: + stands for one part, # at the end for any number",
    ),
]
_REFUSED = 128


class MqttSourceSettings(
    FieldMap, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="mqtt"
):
    """Which broker to ask for which topics, and which field holds what."""

    topics: Annotated[tuple[Topic, ...], Meta(min_length=1)]
    name: Name = "mqtt"
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 1883
    qos: Literal[0, 1, 2] = 1
    """Of the subscription; what comes twice is counted once."""
    username: str | None = None
    password_file: str | None = None
    """Path of a file whose first line is the password."""
    tls: bool = False
    """Also without `tls_ca`, by the system's CAs."""
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    client_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """A broker ends the older of two connections with one id; by default each has its own."""
    keepalive_s: Annotated[int, Meta(ge=1, le=65_535)] = 30
    take_retained: bool = False
    """Take what the broker remembers from before the collector came as if it were of now."""

    @property
    def where(self) -> str:
        """Return the broker and the topics."""
        return f"{self.host}:{self.port} {' '.join(self.topics)}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key needs tls_cert")


class MqttSource:
    """Listens to topics; ends with the connection and is started anew."""

    def __init__(self, settings: MqttSourceSettings) -> None:
        self._settings = settings
        self._mapper = Mapper(settings, settings.name, separator="/")

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._settings.name

    async def run(self, sink: Sink) -> None:
        """Map each message, and reject those that are no measurement of a known slice."""
        where = f"{self._settings.host}:{self._settings.port}"
        try:
            async with self._client(partial(self._take, sink)) as client:
                await self._subscribe(client, sink)
                sink.up(True)
                async for _ in client.messages:  # none: they are taken as they come, until the connection ends
                    pass
        except MqttConnectError as error:
            remedy = "check username and password_file"
            raise TemporaryError(f"the MQTT broker {where} refuses the connection: {error}; {remedy}") from error
        except aiomqtt.MqttError as error:
            lost = f"connection lost: {error.__cause__}" if error.__cause__ else str(error)
            raise TemporaryError(f"MQTT broker {where}: {lost}") from error

    def _client(self, take: Callable[[aiomqtt.Message], None]) -> aiomqtt.Client:
        settings = self._settings
        return aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=files.secret(settings.password_file, "password_file") if settings.password_file else None,
            identifier=settings.client_id,
            keepalive=settings.keepalive_s,
            tls_context=self._tls(),
            queue_type=cast(type[asyncio.Queue[aiomqtt.Message]], partial(_HandOver, take)),
        )

    def _tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if not (settings.tls or settings.tls_ca or settings.tls_cert):
            return None
        return files.tls_context(settings.tls_ca, settings.tls_cert, settings.tls_key)

    async def _subscribe(self, client: aiomqtt.Client, sink: Sink) -> None:
        refused = 0
        for topic in self._settings.topics:
            codes = await client.subscribe(topic, qos=self._settings.qos)
            if any((code.value if isinstance(code, ReasonCode) else code) >= _REFUSED for code in codes):
                refused += 1
                text = f"the broker refuses the subscription to {topic!r}: look at its access list"
                sink.reject(b"", subject=topic, error=Rejected("refused", text))
        if refused == len(self._settings.topics):
            raise TemporaryError(f"the MQTT broker refuses all topics: {', '.join(self._settings.topics)}")

    def _take(self, sink: Sink, message: aiomqtt.Message) -> None:
        take(lambda: self._read(message), sink, message.payload, subject=message.topic.value)

    def _read(self, message: aiomqtt.Message) -> Found:
        if message.retain and not self._settings.take_retained:
            text = "retained: the broker remembers it, from a time that nobody knows; take_retained takes it"
            return [Rejected("retained", text)]
        return self._mapper.read(message.payload, message.topic.value, time.time())


class _HandOver(asyncio.Queue[aiomqtt.Message]):
    """The client's queue, which hands over instead of queueing.

    The client's own grows without bound, or drops the newest and only logs it. Taking each message before the next
    is read leaves waiting messages where they are bounded and counted: with the broker.
    """

    def __init__(self, take: Callable[[aiomqtt.Message], None], maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._take = take

    def put_nowait(self, item: aiomqtt.Message) -> None:
        self._take(item)
