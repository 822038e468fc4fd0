"""The table [actuator.onos]: where ONOS is, and the flows whose rates are held."""

import re
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Annotated

from msgspec import Meta, Struct

ETH_TYPE_IPV4 = 0x800
IP_PROTO_UDP = 17

_DEVICE = re.compile("of:[0-9a-f]{16}")
_OUTPUTS = ("NORMAL", "TABLE", "IN_PORT", "LOCAL")
_U8 = Annotated[int, Meta(ge=0, le=0xFF)]
_U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
_Seconds = Annotated[float, Meta(gt=0.0, le=60.0)]

Criteria = dict[str, int | str]
"""What a flow matches: OpenFlow's name of a field, as ONOS spells it → the value."""


class OnosSelector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a flow matches; the protocol fields that a match needs are added by themselves."""

    in_port: Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)] | None = None
    eth_type: _U16 | None = None
    vlan_vid: Annotated[int, Meta(ge=0, le=4095)] | None = None
    ip_dscp: Annotated[int, Meta(ge=0, le=63)] | None = None
    ip_proto: _U8 | None = None
    ipv4_src: str | None = None
    """A prefix such as `10.10.3.1/32`."""
    ipv4_dst: str | None = None
    udp_dst: _U16 | None = None
    tunnel_id: Annotated[int, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        for field in ("ipv4_src", "ipv4_dst"):
            _check_prefix(field, getattr(self, field))
        if self.udp_dst is not None and self.ip_proto not in (None, IP_PROTO_UDP):
            raise ValueError(f"udp_dst needs ip_proto {IP_PROTO_UDP}, not {self.ip_proto}; leave ip_proto out")
        if self._is_ipv4 and self.eth_type not in (None, ETH_TYPE_IPV4):
            raise ValueError(f"an IP match needs eth_type 0x800, not {self.eth_type:#x}; leave eth_type out")
        if not self.criteria:
            raise ValueError("the selector matches everything; name what the slice's packets have, as ipv4_src")

    @property
    def _is_ipv4(self) -> bool:
        ip_fields = (self.ip_dscp, self.ip_proto, self.ipv4_src, self.ipv4_dst, self.udp_dst)
        return any(value is not None for value in ip_fields)

    @property
    def criteria(self) -> Criteria:
        """Return what is matched, with the fields that a switch demands before it matches another."""
        eth_type = ETH_TYPE_IPV4 if self._is_ipv4 else self.eth_type
        ip_proto = self.ip_proto if self.udp_dst is None else IP_PROTO_UDP
        values = {
            "IN_PORT": self.in_port,
            "ETH_TYPE": eth_type,
            "VLAN_VID": self.vlan_vid,
            "IP_DSCP": self.ip_dscp,
            "IP_PROTO": ip_proto,
            "IPV4_SRC": self.ipv4_src,
            "IPV4_DST": self.ipv4_dst,
            "UDP_DST": self.udp_dst,
            "TUNNEL_ID": self.tunnel_id,
        }
        return {kind: value for kind, value in values.items() if value is not None}


class OnosQueue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue of the switch, and the rate that it was given there."""

    id: Annotated[int, Meta(ge=0, le=0xFFFF_FFFE)]
    mbps: Annotated[float, Meta(gt=0.0, le=1e9)]


class OnosFlow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flow on a device: held by a meter of its own, or, where `queues` are given, by one of these."""

    device: str
    """The id of an OpenFlow switch, as `of:0000000000000050`."""
    selector: OnosSelector
    priority: Annotated[int, Meta(ge=1, le=0xFFFF)] = 40_001
    output: Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)] | str = "NORMAL"
    """A port's number, or one of OpenFlow's names for ports."""
    queues: list[OnosQueue] = []

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise ValueError(
                f"device {self.device!r}: write of: and 16 hexadecimal digits in lower case, as ONOS lists devices"
            )
        if isinstance(self.output, str) and self.output not in _OUTPUTS:
            raise ValueError(f"output {self.output!r}: write a port's number or one of {', '.join(_OUTPUTS)}")
        ids = [queue.id for queue in self.queues]
        if twice := {one for one in ids if ids.count(one) > 1}:
            raise ValueError(f"queues name the queue {min(twice)} twice")

    @property
    def place(self) -> tuple[str, int, frozenset[tuple[str, int | str]]]:
        """Return what makes a switch take two flows for one."""
        return self.device, self.priority, frozenset(self.selector.criteria.items())


class OnosSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the driver `onos` asks, and which flows there are; a target is the name of a flow."""

    url: Annotated[str, Meta(pattern="^https?://[^/@?#]+[^@?#]*$")] = "http://127.0.0.1:8181/onos/v1"
    """With /onos/v1; user and password do not belong into it."""
    username: str = "onos"
    password_file: str | None = None
    """Path of a file whose first line is the password."""
    app_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] = "org.microopt"
    """The owner under which flows are posted; only this one's are changed."""
    burst_ms: Annotated[int, Meta(ge=1, le=10_000)] = 250
    """What a meter lets pass at once, as time at its rate; it drops the rest, so that TCP wants it long."""
    timeout_s: _Seconds = 2.0
    confirm_s: _Seconds = 8.0
    """How long one attempt waits for a switch to confirm; the next goes on from there."""
    flows: dict[str, OnosFlow] = {}

    def __post_init__(self) -> None:
        seen: dict[object, str] = {}
        for name, flow in self.flows.items():
            if other := seen.get(flow.place):
                raise ValueError(
                    f"flows {other!r} and {name!r} have the same device, priority and selector, which a switch "
                    "takes for one flow; let one of them match something else"
                )
            seen[flow.place] = name


def _check_prefix(field: str, text: str | None) -> None:
    if text is None:
        return
    try:
        network = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise ValueError(f"{field} {text!r} is no IPv4 prefix, such as 10.10.3.1/32 ({error})") from None
    if str(network) != text:
        # A switch ignores the bits behind the prefix, and would match all of the network.
        raise ValueError(f"{field} {text!r} matches all of {network}; write that, or /32 for one address")
