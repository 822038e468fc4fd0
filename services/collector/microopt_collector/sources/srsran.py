"""Measurements of an srsRAN gNB, which reports over UDP (to 25.04) or a WebSocket (from 25.10)."""

import asyncio
import time
from typing import Annotated, ClassVar, Final, Literal

import aiohttp
from msgspec import Meta, field

from microopt.errors import TemporaryError
from microopt.ids import slice_id
from microopt.messages import Name
from microopt_collector.sources import srsran_report, values
from microopt_collector.sources.base import CommonSettings, Rejected, Sink, take
from microopt_collector.sources.http import why
from microopt_collector.sources.mapping import Found, check_slices

MAX_BYTES: Final = 8 * 1024 * 1024
SUBSCRIBE: Final = {"cmd": "metrics_subscribe"}
CONNECT_S: Final = 5.0
HEARTBEAT_S: Final = 10.0


class SrsRanSourceSettings(
    CommonSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="srsran"
):
    """Where the gNB reports, and which slice its UEs are of: its reports do not tell."""

    unit_setting: ClassVar[str] = "the gNB's version: dl_brate should be in bit/s"

    transport: Literal["udp", "websocket"]
    name: Name = "srsran"
    host: str = "127.0.0.1"
    """Where to listen, with `udp`."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 55_555
    url: Annotated[str, Meta(pattern="^wss?://")] = "ws://127.0.0.1:8001"
    """What to connect to, with `websocket`."""
    slice: str | None = None
    slice_of_pci: dict[Annotated[str, Meta(pattern="^[0-9]{1,4}$")], str] = field(default_factory=dict)
    """Instead of `slice`: physical cell id → slice."""
    active_only: bool = False
    """Count only UEs with something sent to them or waiting for them."""

    @property
    def where(self) -> str:
        """Return the address."""
        return f"udp {self.host}:{self.port}" if self.transport == "udp" else self.url

    def __post_init__(self) -> None:
        if (self.slice is None) == (not self.slice_of_pci):
            raise ValueError("a gNB's reports do not tell slices; give slice or slice_of_pci")
        check_slices(self.slice_of_pci, self.slice)
        slices = list(self.slice_of_pci.values())
        if self.transport == "udp" and len(set(slices)) < len(slices):
            raise ValueError("slice_of_pci: over UDP each cell reports by itself; their users cannot be summed")


class SrsRanSource:
    """Hears one gNB; the time of a report is that of its arrival, for its own has no zone."""

    def __init__(self, settings: SrsRanSourceSettings) -> None:
        self._settings = settings
        self._cells = srsran_report.Cells(
            every=None if settings.slice is None else slice_id(settings.slice),
            by_pci={int(pci): slice_id(name) for pci, name in settings.slice_of_pci.items()},
        )

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._settings.name

    async def run(self, sink: Sink) -> None:
        """Map each report, and reject what is none."""
        await (self._hear_udp(sink) if self._settings.transport == "udp" else self._hear_websocket(sink))

    async def _hear_udp(self, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        address = (self._settings.host, self._settings.port)
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self, sink), local_addr=address)
        except OSError as error:
            where = self._settings.where
            raise TemporaryError(f"{where}: {error.strerror}; does another program listen there?") from error
        sink.up(True)
        try:
            await asyncio.Event().wait()
        finally:
            transport.close()

    async def _hear_websocket(self, sink: Sink) -> None:
        url = self._settings.url
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                asyncio.timeout(CONNECT_S) as patience,
                session.ws_connect(url, max_msg_size=MAX_BYTES, heartbeat=HEARTBEAT_S) as socket,
            ):
                patience.reschedule(None)
                await socket.send_json(SUBSCRIBE)
                sink.up(True)
                async for message in socket:
                    if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        data = message.data.encode() if isinstance(message.data, str) else message.data
                        self.take(data, sink, url)
                end = socket.exception() or f"closed with code {socket.close_code}"
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise TemporaryError(f"gNB at {url}: {why(error)}") from error
        raise TemporaryError(f"gNB at {url}: {end}")

    def take(self, data: bytes, sink: Sink, subject: str) -> None:
        """Hand over what one report says."""
        take(lambda: self._read(data), sink, data, subject=subject)

    def _read(self, data: bytes) -> Found:
        try:
            found = values.parse(data, MAX_BYTES)
        except Rejected as error:
            return [error]
        return srsran_report.read(
            found, self._cells, active_only=self._settings.active_only, source=self.name, now_s=time.time()
        )


class _Udp(asyncio.DatagramProtocol):
    """One report a datagram."""

    def __init__(self, source: SrsRanSource, sink: Sink) -> None:
        self._source = source
        self._sink = sink

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._source.take(data, self._sink, f"udp {addr[0]}:{addr[1]}")
