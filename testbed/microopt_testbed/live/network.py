"""The live testbed's network namespaces and links, made inside the plane's own namespaces and gone with them.

core ─ n3 ─[ link ]─ switch ─ slice1 ─ n3 gnb1 air ─ air ue1 uesimtun0
                            └ slice2 ─ n3 gnb2 air ─ air ue2 uesimtun0
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from microopt_testbed.live.addresses import AIR, CORE, N3, TUN_MTU, UE_TUN, SliceNet
from microopt_testbed.live.commands import ip, run

NAMES: Final = Path("/var/run/netns")
"""Where `ip netns` keeps names."""
CORE_PORT: Final = "core"
QUEUE_PACKETS: Final = 100
"""What waits at a slice's port at most: about 0.1 s at 10 Mbit/s, as a router for video would have it."""
_LINK_BURST_BYTES: Final = 32_000
_LINK_LATENCY_MS: Final = 50


def build(slices: Iterable[SliceNet], users: int, link_mbps: float) -> None:
    """Make everything but the switch, whose ports these are."""
    NAMES.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "netns", str(NAMES))  # this mount is the plane's alone
    ip(["link set lo up", f"netns add {CORE}", *_pair(CORE_PORT, CORE)])
    ip([*_up(N3), "link set lo up"], CORE)
    limit = f"rate {link_mbps:g}mbit burst {_LINK_BURST_BYTES} latency {_LINK_LATENCY_MS}ms"
    run("tc", "-n", CORE, "qdisc", "add", "dev", N3, "root", "tbf", *limit.split())
    for net in slices:
        _build_slice(net, users)


def _build_slice(net: SliceNet, users: int) -> None:
    gnb, ue = net.gnb_namespace, net.ue_namespace
    ip([f"netns add {gnb}", f"netns add {ue}", *_pair(net.port, gnb)])
    ip(
        [f"addr add {net.upf_n3}/24 dev {N3}", *_tun(net.upf_tun), f"addr add {net.server}/16 dev {net.upf_tun}"],
        CORE,
    )
    ip(
        [
            *_up(N3),
            f"addr add {net.gnb_n3}/24 dev {N3}",
            f"link add {AIR} type veth peer name {AIR} netns {ue}",
            f"addr add {net.gnb_air}/30 dev {AIR}",
            *_up(AIR),
        ],
        gnb,
    )
    ip(
        [
            *_up(AIR),
            f"addr add {net.ue_air}/30 dev {AIR}",
            *_tun(UE_TUN),
            *(f"addr add {net.ue(number)}/32 dev {UE_TUN}" for number in range(users)),
            f"route add {net.ue_subnet} dev {UE_TUN}",
        ],
        ue,
    )


def _pair(port: str, namespace: str) -> list[str]:
    """Return what makes a port of the switch, and N3 at the other end of its cable."""
    return [
        f"link add {port} txqueuelen {QUEUE_PACKETS} type veth peer name {N3} netns {namespace}",
        f"link set {port} up",
    ]


def _up(interface: str) -> list[str]:
    return [f"link set {interface} up"]


def _tun(name: str) -> list[str]:
    return [f"tuntap add dev {name} mode tun", f"link set {name} mtu {TUN_MTU} up"]
