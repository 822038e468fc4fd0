"""TUN interfaces: packets of the kernel's network stack, read and written by a process (tuntap.rst)."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

TUN: Final = Path("/dev/net/tun")
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFREQ: Final = struct.Struct("16sH22x")


def open_tun(name: str) -> int:
    """Return a file descriptor of the interface `name` of this network namespace; reading never waits.

    Raises:
        OSError: there is no /dev/net/tun, no right to open it, or somebody else has the interface.
    """
    descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
