"""Traffic control by netlink (rtnetlink(7)): one socket a conversation, in whichever network namespace.

pyroute2 makes and reads the messages. The socket is our own, because pyroute2's would fork this process to open
one in another namespace, and make a namespace that is missing.
"""

import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pyroute2 import netns
from pyroute2.netlink import NLM_F_ACK, NLM_F_ECHO, NLM_F_REQUEST, NLMSG_ERROR
from pyroute2.netlink.rtnl import RTM_GETTCLASS, RTM_NEWTCLASS
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from microopt.errors import MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.tc_class import ROOT, HtbClass, asked, parse_class
from microopt_actuator.drivers.tc_target import TcTarget, class_id

NETNS_FOLDER: Final = Path("/var/run/netns")
"""Where `ip netns` keeps the namespaces that have a name."""

_SIOCGIFINDEX: Final = 0x8933
_SIOCGIFHWADDR: Final = 0x8927
_IFREQ: Final = struct.Struct("16si20x")
_IFREQ_ADDRESS: Final = struct.Struct("16s2x14s8x")
_HEADER: Final = struct.Struct("=IHHII")
_ERROR: Final = struct.Struct("=i")
_ANSWER_S: Final = 2.0
_MAX_ANSWER: Final = 65_536
_MAX_DEPTH: Final = 8
"""The kernel's TC_HTB_MAXDEPTH."""


class TcSocket:
    """Asks the kernel for classes and changes them, in the namespace that `descriptor` belongs to."""

    def __init__(self, descriptor: socket.socket) -> None:
        self._socket = descriptor
        self._sequence = 0

    def index(self, interface: str) -> int:
        """Return the number of an interface.

        Raises:
            OSError: ENODEV, there is none of this name.
        """
        answer = fcntl.ioctl(self._socket, _SIOCGIFINDEX, _IFREQ.pack(interface.encode(), 0))
        return int(_IFREQ.unpack(answer)[1])

    def identity(self, interface: str) -> str:
        """Return what tells an interface from a later one of the same name: its number and address.

        One is not enough: in a namespace that is made anew the numbers are the same.

        Raises:
            OSError: ENODEV, there is none of this name.
        """
        question = _IFREQ_ADDRESS.pack(interface.encode(), b"")
        answer = fcntl.ioctl(self._socket, _SIOCGIFHWADDR, question)
        return f"{self.index(interface)}-{_IFREQ_ADDRESS.unpack(answer)[1].hex()}"

    def get(self, index: int, handle: int) -> HtbClass | None:
        """Return a class, or None if it is of another kind than HTB.

        Raises:
            OSError: ENOENT, there is no such class; others as the kernel says.
        """
        # Without ECHO the kernel answers only those who listen for changes. A dump would need no ECHO, but grows
        # with the number of classes.
        try:
            answer = self._ask(asked(index, handle), RTM_GETTCLASS, NLM_F_ECHO)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the qdisc is of a kind that has no classes
                return None
            raise
        if answer is None:
            raise OSError(errno.EBADMSG, "the kernel acknowledged and said nothing")
        message = tcmsg(answer)
        message.decode()
        return parse_class(message)

    def change(self, wanted: HtbClass) -> None:
        """Give a class the parameters of `wanted`; one that is gone is not made anew.

        Raises:
            OSError: as the kernel says.
        """
        self._ask(wanted.request(), RTM_NEWTCLASS, 0)  # neither CREATE nor REPLACE

    def _ask(self, message: Any, kind: int, flags: int) -> bytes | None:
        """Return what the kernel says before it acknowledges."""
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(message.data)
        answer = None
        while True:
            for kind, sequence, part in _parts(self._socket.recv(_MAX_ANSWER)):
                if sequence != self._sequence:
                    continue
                if kind != NLMSG_ERROR:
                    answer = part
                elif code := _ERROR.unpack_from(part, _HEADER.size)[0]:
                    raise OSError(-code, os.strerror(-code))
                else:
                    return answer


@contextmanager
def conversation(namespace: str | None) -> Iterator[TcSocket]:
    """Open a socket in the network namespace of this process or in a named one.

    Raises:
        OSError: the namespace is not there, or may not be entered.
    """
    with _opened() if namespace is None else _opened_in(namespace) as descriptor:
        descriptor.settimeout(_ANSWER_S)
        yield TcSocket(descriptor)


def find(tc: TcSocket, target: TcTarget) -> tuple[HtbClass, list[HtbClass]]:
    """Return the class that `target` names and those above it, nearest first.

    Raises:
        OSError: as the kernel says.
        PermanentError: it is a class of another kind than HTB.
    """
    index = tc.index(target.interface)
    chain: list[HtbClass] = []
    handle = target.handle
    while handle != ROOT and len(chain) <= _MAX_DEPTH:
        one = tc.get(index, handle)
        if one is None:
            raise PermanentError(
                f"tc {target}: class {class_id(handle)} is not of kind htb; give {target.interface} the "
                "qdisc htb, or bind the resource to another driver"
            )
        chain.append(one)
        handle = one.parent
    return chain[0], chain[1:]


def refusal(error: OSError, target: TcTarget, doing: str) -> MicrooptError:
    """Return the error to raise for what the kernel said of `target` while `doing` something."""
    said = f"tc {target}: {doing}: {error.strerror or error}"
    if error.errno == errno.ENODEV:
        return TemporaryError(f"{said}; interface {target.interface} is gone and may come back")
    if error.errno == errno.ENOENT:
        return TemporaryError(f"{said}; {_missing(target)}")
    if error.errno in (errno.EPERM, errno.EACCES):
        more = "" if target.netns is None else ", and CAP_SYS_ADMIN to enter another network namespace"
        return PermanentError(f"{said}; give the actuator the capability CAP_NET_ADMIN{more}")
    if error.errno in (errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP):
        return PermanentError(f"{said}; the kernel does not take this value, see dmesg")
    return TemporaryError(said)


def _missing(target: TcTarget) -> str:
    if target.netns is not None and not (NETNS_FOLDER / target.netns).exists():
        return f"there is no network namespace {target.netns} in {NETNS_FOLDER} now"
    return (
        f"there is no such class now; it is made by: tc class add dev {target.interface} parent PARENT "
        f"classid {class_id(target.handle)} htb rate RATE"
    )


def _parts(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, sequence number and bytes of each message in a datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            raise OSError(errno.EBADMSG, "the kernel's answer is cut off")
        yield kind, sequence, data[offset : offset + length]
        offset += (length + 3) & ~3


def _opened() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    return socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)


def _opened_in(namespace: str) -> socket.socket:
    """Open a socket from a thread that enters `namespace` and ends there, so that no other thread does."""
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            descriptor = os.open(NETNS_FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                netns.setns(descriptor)
                made.append(_opened())
            finally:
                os.close(descriptor)
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter, name="microopt-netns")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
