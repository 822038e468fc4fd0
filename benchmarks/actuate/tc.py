"""HTB classes on a link, in a network namespace that is there for the benchmark alone."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pyroute2 import netns
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR
from pyroute2.netlink.rtnl import RTM_NEWTCLASS

from actuate.place import Place
from microopt_actuator.drivers.tc_class import rate_of
from microopt_actuator.drivers.tc_netlink import NETNS_FOLDER, conversation, find
from microopt_actuator.drivers.tc_target import parse_target

VALUES_MBPS = (20.0, 30.0)
OURS, BARE = "1:10", "1:20"

_ERROR = struct.Struct("=IHHIIi")


@contextmanager
def tc_place(slice_: str) -> Iterator[Place]:
    """Make a link named as the slice, with classes for the driver and for the bare call; remove all at the end."""
    name = f"microopt-bench-{os.getpid()}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "-n", name, "link", "add", slice_, "type", "veth", "peer", "name", "peer")
        _run("tc", "-n", name, "qdisc", "add", "dev", slice_, "root", "handle", "1:", "htb")
        for parent, class_id, rate in (("1:", "1:1", "100mbit"), ("1:1", OURS, "10mbit"), ("1:1", BARE, "10mbit")):
            added = f"class add dev {slice_} parent {parent} classid {class_id} htb rate {rate} quantum 60000"
            _run("tc", "-n", name, *added.split())
        with _socket_in(name) as one:
            bare = _Bare(one, _requests(f"netns:{name}/{slice_}/{BARE}"))
            yield Place("tc", f"netns:{name}/{{slice}}/{OURS}", "Mbit/s", VALUES_MBPS, bare)
    finally:
        _run("ip", "netns", "del", name)


class _Bare:
    """The kernel's part alone: a message that was ready before, and its acknowledgement."""

    def __init__(self, one: socket.socket, requests: dict[float, bytes]) -> None:
        self._socket = one
        self._requests = requests

    async def __call__(self, value: float) -> None:
        self._socket.send(self._requests[value])
        _, kind, _, _, _, error = _ERROR.unpack_from(self._socket.recv(4096))
        if kind != NLMSG_ERROR or error:
            raise RuntimeError(f"the kernel does not change the class: {os.strerror(-error)}")


def _requests(target: str) -> dict[float, bytes]:
    """Return the message that gives the class each of the values."""
    where = parse_target(target)
    with conversation(where.netns) as tc:
        now, _ = find(tc, where)
    made = {}
    for value in VALUES_MBPS:
        message = now.at(rate_of(value)).request()
        message["header"]["type"] = RTM_NEWTCLASS
        message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK
        message.encode()
        made[value] = bytes(message.data)
    return made


def _socket_in(name: str) -> socket.socket:
    """Open a netlink socket from a thread that enters the namespace and ends there."""

    def enter() -> socket.socket:
        with (NETNS_FOLDER / name).open("rb") as namespace:
            netns.setns(namespace.fileno())
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(enter).result()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
