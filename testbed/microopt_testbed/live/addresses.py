"""Which interfaces, addresses and tunnels a slice of the live testbed has; `index` counts slices from 1."""

from dataclasses import dataclass
from typing import Final

CORE: Final = "core"
"""The network namespace of all user planes and video servers."""
N3: Final = "n3"
AIR: Final = "air"
UE_TUN: Final = "uesimtun0"
TUN_MTU: Final = 1400
"""With GTP-U, UDP and IP around it a packet still fits N3's 1500 bytes."""
VIDEO_PORT: Final = 8080
AIR_PORT: Final = 4997
MAX_SLICES: Final = 50
MAX_USERS: Final = 100


@dataclass(frozen=True, slots=True)
class SliceNet:
    """The part of the network that is one slice's."""

    index: int

    @property
    def gnb_namespace(self) -> str:
        """Return the network namespace of the slice's gNB."""
        return f"gnb{self.index}"

    @property
    def ue_namespace(self) -> str:
        """Return the network namespace of the slice's UEs."""
        return f"ue{self.index}"

    @property
    def port(self) -> str:
        """Return the switch's port towards the gNB, whose queue 0 is the slice's bandwidth."""
        return f"slice{self.index}"

    @property
    def upf_tun(self) -> str:
        """Return the UPF's interface towards the data network."""
        return f"ogstun{self.index}"

    @property
    def upf_n3(self) -> str:
        """Return the UPF's address on N3."""
        return f"10.10.3.{self.index}"

    @property
    def gnb_n3(self) -> str:
        """Return the gNB's address on N3."""
        return f"10.10.3.{100 + self.index}"

    @property
    def gnb_air(self) -> str:
        """Return the gNB's address on the link in the place of the air."""
        return f"192.168.{self.index}.1"

    @property
    def ue_air(self) -> str:
        """Return the UEs' address on it."""
        return f"192.168.{self.index}.2"

    @property
    def ue_subnet(self) -> str:
        """Return the addresses that the slice's UEs are given."""
        return f"10.{40 + self.index}.0.0/16"

    @property
    def server(self) -> str:
        """Return the address of the video server."""
        return f"10.{40 + self.index}.0.1"

    def ue(self, number: int) -> str:
        """Return the address of a UE, counted from 0."""
        return f"10.{40 + self.index}.1.{number + 1}"

    @staticmethod
    def ue_number(address: bytes) -> int:
        """Return which UE has a packed address."""
        return address[3] - 1
