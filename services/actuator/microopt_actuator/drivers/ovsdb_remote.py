"""Where a database is served, in Open vSwitch's notation (ovsdb(7)): unix:FILE, tcp:HOST:PORT or ssl:HOST:PORT."""

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Final

from microopt.errors import ConfigError
from microopt_actuator.settings import OvsSettings

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_PORT: Final = 6640
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/]+)(?::([0-9]{1,5}))?")
_HOW: Final = "write unix:/var/run/openvswitch/db.sock, tcp:127.0.0.1:6640 or ssl:127.0.0.1:6640"


@dataclass(frozen=True, slots=True)
class Remote:
    """A socket's file, or a host and its port, by TLS where there is a `context`."""

    text: str
    path: str = ""
    host: str = ""
    port: int = _PORT
    context: ssl.SSLContext | None = None

    async def connect(self) -> Streams:
        """Open a connection.

        Raises:
            OSError: there is none.
        """
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(self.host, self.port, ssl=self.context)


def parse_remote(settings: OvsSettings) -> Remote:
    """Return the remote of the settings.

    Raises:
        ConfigError: it is not in Open vSwitch's notation, or a file for TLS cannot be used.
    """
    text = settings.remote
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return Remote(text, path=rest)
    found = _HOST.fullmatch(rest)
    if kind not in ("tcp", "ssl") or not found or not 0 < int(found[2] or _PORT) < 1 << 16:
        raise ConfigError(f"[actuator.ovs] remote {text!r} is no database's; {_HOW}")
    context = _tls(settings) if kind == "ssl" else None
    return Remote(text, host=found[1].strip("[]"), port=int(found[2] or _PORT), context=context)


def _tls(settings: OvsSettings) -> ssl.SSLContext:
    """Return what proves both sides; as in Open vSwitch, a certificate of the switches' authority is enough."""
    if not (settings.tls_ca and settings.tls_cert and settings.tls_key):
        raise ConfigError(
            f"[actuator.ovs] remote {settings.remote!r} needs tls_ca, tls_cert and tls_key: give three files, as "
            "ovs-pki makes them"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        context.load_verify_locations(settings.tls_ca)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl's errors are such, too
        raise ConfigError(f"[actuator.ovs] tls_ca, tls_cert or tls_key cannot be used: {error}") from None
    return context
