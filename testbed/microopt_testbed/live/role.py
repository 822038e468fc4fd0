"""What the processes of the live testbed have in common: settings in a file, lines of JSON as their voice."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from microopt_testbed.live.addresses import SliceNet

SOCKET_BUFFER_BYTES: Final = 1 << 20
_SO_NO_CHECK: Final = 11  # asm-generic/socket.h; Python does not name these
_SO_RCVBUFFORCE: Final = 33


class RoleSettings(Struct, frozen=True, kw_only=True):
    """What a process is told about its slice; `keys` are hexadecimal, one a UE."""

    slice: str
    index: int
    keys: tuple[str, ...]
    slot_s: float
    segments_bits: tuple[int, ...]
    recording: tuple[tuple[float, int], ...] = ()
    """Seconds and bytes of the packets to replay; none is video."""

    @property
    def net(self) -> SliceNet:
        """Return the slice's part of the network."""
        return SliceNet(self.index)


def settings() -> RoleSettings:
    """Return what this process was started with, from a file: its arguments everybody could read."""
    return msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=RoleSettings)


def uplink_teid(number: int) -> int:
    """Return the tunnel of a UE's packets towards the UPF."""
    return 0x1000 + number


def downlink_teid(number: int) -> int:
    """Return the tunnel of a UE's packets towards the gNB."""
    return 0x2000 + number


def udp(address: str, port: int, peer: str) -> socket.socket:
    """Return a socket between two of the testbed's processes that never waits.

    Checksums are left out, as GTP-U over IPv4 may: a switch in user space gets them unfinished from a veth pair.
    """
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    one.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
    one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES)
    one.bind((address, port))
    one.connect((peer, port))
    return one


def say(**what: Any) -> None:
    """Write one line, at once and in one piece."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(what) + b"\n")


class Command(Struct, frozen=True):
    """What a process is told while it runs: how many UEs have traffic from now on."""

    users: int


async def commands() -> AsyncIterator[Command]:
    """Yield what comes in, a line each, until the other side has gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield msgspec.json.decode(line, type=Command)
