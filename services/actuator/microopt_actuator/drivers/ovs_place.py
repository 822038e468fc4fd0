"""Where a target's queue is in the database, and which rates it can have there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.ovs_rows import Interface, Port, QoS, Queue, Rows
from microopt_actuator.drivers.ovs_target import OvsTarget

SHAPERS: Final = ("linux-htb", "linux-hfsc")
"""The types of QoS whose queues have rates that Linux keeps."""
BYTES_S_MAX: Final = (1 << 32) - 1
"""Open vSwitch takes rates from 2^32 bytes/s on modulo that, without a word (3.1; openvswitch/ovs-issues#189)."""

_LINUX: Final = ("", "system", "internal", "tap", "afxdp", "afxdp-nonpmd")
"""The types of interfaces whose traffic Linux shapes: tunnels and DPDK's have no such function."""
_USUAL_MTU: Final = 1500
_UNKNOWN_SPEED: Final = 100_000_000
"""What Open vSwitch before 3.0 assumes, in bits/s, where neither QoS nor link says anything."""


@dataclass(frozen=True, slots=True)
class Place:
    """A port, its QoS and the queue; between `least` and `most`, in bits/s, a rate stays what it is.

    What is missing, and could be made, is `None`.
    """

    port: Port
    qos: QoS | None
    number: int
    queue: Queue | None
    least: int
    most: int

    def rate(self) -> int | None:
        """Return the rate in force, in bits/s; `None` where there is no queue, or it has no one rate."""
        if self.queue is None:
            return None
        low, high = (_integer(self.queue.other_config, key) for key in ("min-rate", "max-rate"))
        if low is None or low != high:
            return None
        return min(max(low, self.least), self.most) // 8 * 8  # Linux counts whole bytes/s

    def has(self, rate: int) -> bool:
        """Return whether the queue's row asks for `rate` alone."""
        config = self.queue.other_config if self.queue is not None else {}
        return _integer(config, "min-rate") == _integer(config, "max-rate") == rate


def find(rows: Rows, target: OvsTarget, *, may_make: bool = False, new_port_mbps: float | None = None) -> Place:
    """Return where `target` is.

    Args:
        rows: what the database says.
        target: what is looked for.
        may_make: whether a queue of a port may be missing.
        new_port_mbps: the rate of the QoS that a port without one may get; `None`: it must have one.

    Raises:
        TemporaryError: it is not there now.
        PermanentError: it cannot be shaped as the database is; the text names the remedy.
    """
    port, number = (_tagged if target.tags else _named)(rows, target)
    interfaces = _interfaces(rows, target, port)
    qos = _qos(rows, target, port, number, may_make, new_port_mbps)
    queue = None if qos is None else _queue(rows, target, port, qos, number, may_make)
    least = max(one.mtu or _USUAL_MTU for one in interfaces) * 8
    config = qos.other_config if qos is not None else {"max-rate": str(round((new_port_mbps or 0) * 1e6))}
    return Place(port, qos, number, queue, least, _most(config, interfaces))


def _named(rows: Rows, target: OvsTarget) -> tuple[Port, int]:
    port = rows.port(target.port)
    if port is None:
        raise TemporaryError(f"ovs {target}: the switch has no port {target.port} now; is it the name of a port?")
    return port, target.queue


def _tagged(rows: Rows, target: OvsTarget) -> tuple[Port, int]:
    queues = rows.tagged(target.tags)
    if not queues:
        tags = " ".join(f"external_ids:{key}={value}" for key, value in target.tags.items())
        raise PermanentError(f"ovs {target}: no queue has these external_ids; ovs-vsctl set queue UUID {tags}")
    if len(queues) > 1:
        many = ", ".join(one.uuid for one in queues[:5])
        raise PermanentError(
            f"ovs {target}: {len(queues)} queues have these external_ids ({many}); tag one of them alone, or tell "
            "them apart by another key"
        )
    places = [(port, number) for qos, number in rows.users(queues[0].uuid) for port in rows.holders(qos.uuid)]
    if not places:
        raise PermanentError(
            f"ovs {target}: queue {queues[0].uuid} belongs to no port; ovs-vsctl set qos UUID "
            f"queues:NUMBER={queues[0].uuid}, with the QoS of a port"
        )
    return places[0]


def _qos(
    rows: Rows, target: OvsTarget, port: Port, number: int, may_make: bool, new_port_mbps: float | None
) -> QoS | None:
    qos = rows.qoses.get(port.qos or "")
    if qos is None:
        if not (may_make and new_port_mbps):
            raise _no_qos(target, port, number, may_make)
    elif qos.type not in SHAPERS:
        raise PermanentError(
            f"ovs {target}: QoS of port {port.name} is of type {qos.type!r}, whose queues have no rates; "
            f"ovs-vsctl set qos {qos.uuid} type=linux-htb"
        )
    return qos


def _queue(rows: Rows, target: OvsTarget, port: Port, qos: QoS, number: int, may_make: bool) -> Queue | None:
    queue = rows.queues.get(qos.queues.get(number, ""))
    if queue is not None:
        _check_alone(rows, target, queue)
    elif not may_make:
        raise PermanentError(
            f"ovs {target}: QoS of port {port.name} has no queue {number}; ovs-vsctl set qos {qos.uuid} "
            f"queues:{number}=@n -- --id=@n create queue other_config:max-rate=BITS_PER_S, or set [actuator.ovs] "
            "create"
        )
    return queue


def _interfaces(rows: Rows, target: OvsTarget, port: Port) -> list[Interface]:
    """Return the devices of a port, all of which shape: a bond gives each of its members the whole rate."""
    found = [rows.interfaces[uuid] for uuid in port.interfaces if uuid in rows.interfaces]
    for one in found:
        if one.type not in _LINUX:
            raise PermanentError(
                f"ovs {target}: interface {one.name} is of type {one.type}, which Open vSwitch does not shape; "
                "bind the resource to the port that its packets leave by"
            )
        if one.error is not None:
            raise TemporaryError(f"ovs {target}: ovs-vswitchd: {one.error}; the device may come back")
        if one.mtu is None:
            raise TemporaryError(
                f"ovs {target}: ovs-vswitchd has not taken up interface {one.name} since the database was "
                "started; is it running?"
            )
    if not found:
        raise TemporaryError(f"ovs {target}: port {port.name} has no interface")
    return found


def _check_alone(rows: Rows, target: OvsTarget, queue: Queue) -> None:
    """Refuse to change a row that is more than one queue: what is another slice's would change with it."""
    places = [f"{port.name}/{number}" for qos, number in rows.users(queue.uuid) for port in rows.holders(qos.uuid)]
    if len(places) > 1:
        raise PermanentError(
            f"ovs {target}: row {queue.uuid} is {len(places)} queues at once ({', '.join(sorted(places)[:5])}); "
            "give each port a QoS of its own, and each queue a row of its own"
        )


def _no_qos(target: OvsTarget, port: Port, number: int, may_make: bool) -> PermanentError:
    other = "set [actuator.ovs] port_mbps to have one made" if may_make else "see [actuator.ovs] create"
    return PermanentError(
        f"ovs {target}: port {port.name} has no QoS; ovs-vsctl set port {port.name} qos=@q -- --id=@q create qos "
        f"type=linux-htb other_config:max-rate=BITS_PER_S queues:{number}=@n -- --id=@n create queue "
        f"other_config:max-rate=BITS_PER_S, or {other}"
    )


def _most(config: Mapping[str, str], interfaces: list[Interface]) -> int:
    """Return what a QoS lets through, in bits/s, as Open vSwitch sees it."""
    speeds = [one.link_speed or _UNKNOWN_SPEED for one in interfaces]
    bits = _integer(config, "max-rate") or min(speeds)
    return bits // 8 % (BYTES_S_MAX + 1) * 8


def _integer(config: Mapping[str, str], key: str) -> int | None:
    """Return a number that Open vSwitch reads as such; to it, anything else is nothing."""
    text = config.get(key, "")
    return int(text) if text.isascii() and text.isdecimal() else None
