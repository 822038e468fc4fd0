"""Whether this process may change traffic control in a network namespace (capabilities(7), user_namespaces(7))."""

import fcntl
import os
from pathlib import Path
from typing import Final

from microopt_actuator.drivers.tc_netlink import NETNS_FOLDER

_CAP_NET_ADMIN: Final = 12
_NS_GET_USERNS: Final = 0xB701
_OWN: Final = Path("/proc/thread-self/ns/net")
_STATUS: Final = Path("/proc/thread-self/status")


def has_net_admin(namespace: str | None) -> bool:
    """Return whether this process has CAP_NET_ADMIN over the network namespace of a name, or its own.

    The capability counts only where the process's user namespace, or one below it, owns the network namespace:
    root of a container that shares the host's network may have it, and change nothing.

    Raises:
        OSError: the namespace is not there, or may not be looked at.
    """
    effective = next(line for line in _STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    if not int(effective.split()[1], 16) >> _CAP_NET_ADMIN & 1:
        return False
    descriptor = os.open(_OWN if namespace is None else NETNS_FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(fcntl.ioctl(descriptor, _NS_GET_USERNS))
    except PermissionError:  # the owner is outside of what this user namespace sees
        return False
    finally:
        os.close(descriptor)
    return True
