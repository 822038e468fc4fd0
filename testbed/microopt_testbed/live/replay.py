"""A recording's packets, sent again at their times and in their sizes to every UE that has traffic."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final

from microopt_testbed.live.addresses import TUN_MTU, SliceNet
from microopt_testbed.live.role import Command, RoleSettings

PORT: Final = 5004
LINK_HEADER_BYTES: Final = 14
"""A capture's packets have an Ethernet header, which no TUN carries."""
IP_UDP_BYTES: Final = 28
MAX_PAYLOAD: Final = TUN_MTU - IP_UDP_BYTES
AT_ONCE: Final = 32
BREAK_S: Final = 0.01
"""Between the end of a recording and its next beginning."""


class Replay:
    """Streams the slice's recording, if it has one, to as many UEs as it is told."""

    def __init__(self, settings: RoleSettings) -> None:
        self._net: SliceNet = settings.net
        self._recording = settings.recording
        self._streams: list[asyncio.Task[None]] = []

    async def follow(self, commands: AsyncIterator[Command]) -> None:
        """Begin and end streams as commands say, until there are no more."""
        async for command in commands:
            wanted = command.users if self._recording else 0
            while len(self._streams) > wanted:
                self._streams.pop().cancel()
            while len(self._streams) < wanted:
                self._streams.append(asyncio.create_task(self._stream(len(self._streams))))

    async def _stream(self, number: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
            one.bind((self._net.server, 0))
            one.connect((self._net.ue(number), PORT))
            while True:
                await self._once(one)
                await asyncio.sleep(BREAK_S)

    async def _once(self, one: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        for count, (at_s, size) in enumerate(self._recording):
            pause_s = begin_s + at_s - loop.time()
            if pause_s > 0 or count % AT_ONCE == 0:  # one that is behind lets others have their turn, too
                await asyncio.sleep(max(0.0, pause_s))
            try:
                one.send(bytes(payload_bytes(size)))
            except OSError:  # as a sender that hears of no loss
                continue


def payload_bytes(size: int) -> int:
    """Return the UDP payload that makes a packet as long as one of `size` bytes was."""
    return min(max(size - LINK_HEADER_BYTES - IP_UDP_BYTES, 1), MAX_PAYLOAD)
