"""Flows and meters as ONOS says them (FlowEntryCodec, MeterCodec), and the bodies that it takes.

Ids: a flow's is decimal everywhere. A meter's is hexadecimal wherever ONOS writes one (its own answers, and the
instruction of a flow) and decimal wherever it reads one (paths, and the instruction that is posted).
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct, field

from microopt.errors import PermanentError
from microopt_actuator.drivers.onos_settings import Criteria, OnosFlow

REST_APP: Final = "org.onosproject.rest"
"""The owner of every meter that is made by REST, whoever asked."""
ADDED: Final = "ADDED"
PENDING_ADD: Final = "PENDING_ADD"
MAX_KBPS: Final = 0xFFFF_FFFF
"""What OpenFlow's meter band can hold."""

_KBPS: Final = "KB_PER_SEC"  # kilobits, in spite of its name (Meter.java)
_FIELDS: Final = {
    "IN_PORT": "port",
    "ETH_TYPE": "ethType",
    "VLAN_VID": "vlanId",
    "IP_DSCP": "ipDscp",
    "IP_PROTO": "protocol",
    "IPV4_SRC": "ip",
    "IPV4_DST": "ip",
    "UDP_DST": "udpPort",
    "TUNNEL_ID": "tunnelId",
}
_NAMED_PORT = re.compile(r"\[[^\]]*\]\((\w+)\)")


class Instructions(Struct, frozen=True):
    """What a flow does with a packet."""

    instructions: list[dict[str, Any]] = []
    deferred: list[dict[str, Any]] = []


class Selector(Struct, frozen=True):
    """What a flow matches."""

    criteria: list[dict[str, Any]] = []


class FlowEntry(Struct, frozen=True, rename="camel"):
    """A flow as ONOS has it; only `ADDED` is on the switch."""

    id: str
    app_id: str
    state: str
    device_id: str
    priority: int
    treatment: Instructions = field(default_factory=Instructions)
    selector: Selector = field(default_factory=Selector)
    table_id: int | str = 0

    @property
    def meter_ids(self) -> list[int]:
        """Return the meters that it goes through."""
        return [meter for one in self.treatment.instructions if (meter := _meter_of(one)) is not None]

    def is_at(self, flow: OnosFlow) -> bool:
        """Return whether a switch takes it for the entry of `flow`, whoever owns it."""
        return (
            self.device_id == flow.device
            and self.priority == flow.priority
            and str(self.table_id) == "0"
            and _criteria(self.selector) == flow.selector.criteria
        )

    def in_force(self, flow: OnosFlow) -> "Hold | None":
        """Return by what the switch holds the rate of `flow`; `None` if it is not known to."""
        return self._hold(flow) if self.state == ADDED else None

    def posted(self, flow: OnosFlow) -> "Hold | None":
        """Return by what the switch is to hold the rate of `flow`, whether or not it has confirmed that."""
        return self._hold(flow) if self.state in (ADDED, PENDING_ADD) else None

    def _hold(self, flow: OnosFlow) -> "Hold | None":
        """Return the instruction for the rate; `None` if the entry does anything beside that and the output."""
        kinds = {one.get("type"): one for one in self.treatment.instructions}
        by = "QUEUE" if flow.queues else "METER"
        if kinds.keys() != {by, "OUTPUT"} or len(self.treatment.instructions) != 2 or self.treatment.deferred:
            return None
        if _port(kinds["OUTPUT"].get("port")) != str(flow.output):
            return None
        number = _meter_of(kinds[by]) if by == "METER" else _whole(kinds[by].get("queueId"))
        return None if number is None else Hold(by, number)


class Band(Struct, frozen=True, rename="camel"):
    """What a meter does above a rate."""

    type: str
    rate: int
    burst_size: int | None = None


class MeterEntry(Struct, frozen=True, rename="camel"):
    """A meter as ONOS has it; only `ADDED` is on the switch."""

    id: str
    unit: str
    app_id: str | None = None  # those that ONOS has only seen on a switch have neither owner nor state
    state: str | None = None
    burst: bool = False
    reference_count: int = 0
    """Flows of the switch that used it when it was asked last."""
    bands: list[Band] = []

    @property
    def number(self) -> int:
        """Return the id as paths and bodies have it."""
        return int(self.id, 16)

    @property
    def rate(self) -> "MeterRate | None":
        """Return the rate above which it drops; `None` if it does anything else."""
        if self.unit != _KBPS or len(self.bands) != 1 or self.bands[0].type != "DROP":
            return None
        burst_kbit = self.bands[0].burst_size if self.burst else None
        return MeterRate(self.bands[0].rate, burst_kbit or 0)


@dataclass(frozen=True, slots=True)
class MeterRate:
    """A rate in kbit/s, and the burst in kbit that passes beyond it; no burst is the switch's own choice."""

    kbps: int
    burst_kbit: int

    def body(self, device: str) -> dict[str, Any]:
        """Return what makes a meter of this rate."""
        band = {"type": "DROP", "rate": self.kbps, "burstSize": self.burst_kbit}
        return {"deviceId": device, "unit": _KBPS, "burst": True, "bands": [band]}


@dataclass(frozen=True, slots=True)
class Hold:
    """The instruction that holds a flow's rate: `METER` or `QUEUE`, and its number."""

    by: str
    number: int | str

    def body(self, flow: OnosFlow) -> dict[str, Any]:
        """Return the flow with this instruction in it."""
        field_name = "meterId" if self.by == "METER" else "queueId"
        return {
            "priority": flow.priority,
            "timeout": 0,
            "isPermanent": True,
            "deviceId": flow.device,
            "selector": {"criteria": [_criterion(*one) for one in flow.selector.criteria.items()]},
            "treatment": {
                "instructions": [
                    {"type": self.by, field_name: self.number},
                    {"type": "OUTPUT", "port": flow.output},
                ]
            },
        }


def number_of(location: str | None, what: str) -> int:
    """Return the decimal id at the end of the address of what was made.

    Raises:
        PermanentError: there is none.
    """
    last = (location or "").rpartition("/")[2]
    if not (last.isascii() and last.isdecimal()):
        raise PermanentError(f"{what}: no id in Location {location!r}; does [actuator.onos] url lead to ONOS?")
    return int(last)


def _criterion(kind: str, value: int | str) -> dict[str, int | str]:
    return {"type": kind, _FIELDS[kind]: f"{value:#x}" if kind == "ETH_TYPE" else value}


def _criteria(selector: Selector) -> Criteria | None:
    """Return what is matched, or None if it is nothing that a flow of the settings can match."""
    found: Criteria = {}
    for one in selector.criteria:
        kind = one.get("type")
        if kind not in _FIELDS or kind in found:
            return None
        value = one.get(_FIELDS[kind])
        known = value if _FIELDS[kind] == "ip" else _whole(value)
        if not isinstance(known, (int, str)):
            return None
        found[kind] = known
    return found


def _meter_of(instruction: dict[str, Any]) -> int | None:
    if instruction.get("type") != "METER":
        return None
    try:
        return int(str(instruction.get("meterId")), 16)
    except ValueError:
        return None


def _whole(value: object) -> int | None:
    """Return a whole number, which ONOS writes as one or as text such as `0x800`."""
    try:
        return int(value, 0) if isinstance(value, str) else value if isinstance(value, int) else None
    except ValueError:
        return None


def _port(value: object) -> str:
    """Return a port without the name that ONOS may give it: `[eth1](2)` is 2."""
    text = str(value)
    return named[1] if (named := _NAMED_PORT.fullmatch(text)) else text
