"""A replica of what the switch's database says about queues, kept by its own notices."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from microopt_actuator.drivers.ovsdb_wire import elements, pairs

DATABASE: Final = "Open_vSwitch"
MONITORED: Final = {
    "Port": {"columns": ["name", "qos", "interfaces"]},
    "Interface": {"columns": ["name", "type", "error", "mtu", "link_speed"]},
    "QoS": {"columns": ["type", "other_config", "queues", "external_ids"]},
    "Queue": {"columns": ["other_config", "external_ids"]},
    "Open_vSwitch": {"columns": ["cur_cfg", "next_cfg"]},
}
"""The tables that are kept, as a `monitor` request names them."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a bridge; bonds have several interfaces."""

    uuid: str
    name: str
    qos: str | None
    interfaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interface:
    """A network device; `mtu` is `None` until ovs-vswitchd has taken it up."""

    name: str
    type: str
    error: str | None
    mtu: int | None
    link_speed: int | None
    """In bits/s."""


@dataclass(frozen=True, slots=True)
class QoS:
    """How a port shapes, and its queues by their ids."""

    uuid: str
    type: str
    other_config: Mapping[str, str]
    queues: Mapping[int, str]
    external_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's rates, among other things, all of them text."""

    uuid: str
    other_config: Mapping[str, str]
    external_ids: Mapping[str, str]


@dataclass(slots=True)
class _Index:
    """Who names whom."""

    ports: dict[str, str] = field(default_factory=dict)
    users: defaultdict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    holders: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    tagged: defaultdict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))


class Rows:
    """The rows, by uuid and by what names them."""

    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}
        self.interfaces: dict[str, Interface] = {}
        self.qoses: dict[str, QoS] = {}
        self.queues: dict[str, Queue] = {}
        self.next_cfg = 0
        """The configuration that the database has, as far as anybody waits for it."""
        self.cur_cfg = 0
        """The configuration that ovs-vswitchd has taken over."""
        self._index: _Index | None = None

    def take(self, updates: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take what the server says of rows, by table and uuid; those that are gone have no `new`."""
        for table, rows in updates.items():
            for uuid, change in rows.items():
                self._take(table, uuid, change.get("new"))

    def port(self, name: str) -> Port | None:
        """Return the port of a name, of which a database has one."""
        uuid = self._indexed().ports.get(name)
        return None if uuid is None else self.ports[uuid]

    def tagged(self, tags: Mapping[str, str]) -> list[Queue]:
        """Return the queues whose external_ids include all of `tags`."""
        index = self._indexed()
        found = set.intersection(*(index.tagged.get(tag, set()) for tag in tags.items()))
        return [self.queues[uuid] for uuid in sorted(found)]

    def users(self, queue: str) -> list[tuple[QoS, int]]:
        """Return the QoS rows that name a queue, and the ids under which they do."""
        return [(self.qoses[uuid], number) for uuid, number in self._indexed().users.get(queue, [])]

    def holders(self, qos: str) -> list[Port]:
        """Return the ports that name a QoS row."""
        return [self.ports[uuid] for uuid in self._indexed().holders.get(qos, [])]

    def _take(self, table: str, uuid: str, new: Mapping[str, Any] | None) -> None:
        if table == "Open_vSwitch":
            if new is not None:
                self.next_cfg, self.cur_cfg = new["next_cfg"], new["cur_cfg"]
            return
        kept: dict[str, Any] = getattr(self, _KEPT[table])
        row = None if new is None else _READ[table](uuid, new)
        former = kept.pop(uuid, None) if row is None else kept.get(uuid)
        if row is not None:
            kept[uuid] = row
        if table != "Interface" and not _named_alike(former, row):
            self._index = None

    def _indexed(self) -> _Index:
        if self._index is None:
            index = self._index = _Index()
            for port in self.ports.values():
                index.ports[port.name] = port.uuid
                if port.qos is not None:
                    index.holders[port.qos].append(port.uuid)
            for qos in self.qoses.values():
                for number, queue in qos.queues.items():
                    index.users[queue].append((qos.uuid, number))
            for one in self.queues.values():
                for tag in one.external_ids.items():
                    index.tagged[tag].add(one.uuid)
        return self._index


def _named_alike(former: Any, row: Any) -> bool:
    """Return whether a change, as that of a rate, leaves it to be found as before."""
    if isinstance(former, Queue) and isinstance(row, Queue):
        return former.external_ids == row.external_ids
    if isinstance(former, QoS) and isinstance(row, QoS):
        return former.queues == row.queues
    return bool(former == row)


def _one(value: Any) -> Any:
    found = elements(value)
    return found[0] if found else None


def _port(uuid: str, new: Mapping[str, Any]) -> Port:
    return Port(uuid, new["name"], _one(new["qos"]), tuple(elements(new["interfaces"])))


def _interface(_: str, new: Mapping[str, Any]) -> Interface:
    return Interface(new["name"], new["type"], _one(new["error"]), _one(new["mtu"]), _one(new["link_speed"]))


def _qos(uuid: str, new: Mapping[str, Any]) -> QoS:
    return QoS(uuid, new["type"], pairs(new["other_config"]), pairs(new["queues"]), pairs(new["external_ids"]))


def _queue(uuid: str, new: Mapping[str, Any]) -> Queue:
    return Queue(uuid, pairs(new["other_config"]), pairs(new["external_ids"]))


_KEPT: Final = {"Port": "ports", "Interface": "interfaces", "QoS": "qoses", "Queue": "queues"}
_READ: Final = {"Port": _port, "Interface": _interface, "QoS": _qos, "Queue": _queue}
