"""Carrying packets inside an event loop that has other work too: some at a time, never waiting."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

BATCH: Final = 32
MAX_PACKET: Final = 2048
NOTHING: Final = (BlockingIOError, ConnectionRefusedError)
"""Nothing to read, or nobody who reads."""

Carry = Callable[[bytes], None]


def from_socket(one: socket.socket, carry: Carry) -> None:
    """Call `carry` with every datagram from now on."""
    _pump(one.fileno(), lambda: one.recv(MAX_PACKET), carry)


def from_tun(descriptor: int, carry: Carry) -> None:
    """Call `carry` with every packet that the kernel routes to a TUN interface from now on."""
    _pump(descriptor, lambda: os.read(descriptor, MAX_PACKET), carry)


def _pump(descriptor: int, receive: Callable[[], bytes], carry: Carry) -> None:
    def ready() -> None:
        for _ in range(BATCH):
            try:
                carry(receive())
            except NOTHING:
                return

    asyncio.get_running_loop().add_reader(descriptor, ready)
