"""GTP-U (TS 29.281) as N3 carries it: G-PDUs with a PDU session container (TS 38.415), nothing else."""

import struct
from typing import Final, Literal

PORT: Final = 2152
G_PDU: Final = 0xFF

_HEADER: Final = struct.Struct("!BBHI")
_VERSION_1_PT: Final = 0x30
_ANY_OPTION: Final = 0x07
_EXTENSION: Final = 0x04
_PDU_SESSION_CONTAINER: Final = 0x85
_OPTIONS_SIZE: Final = 4
_WITH_CONTAINER: Final = struct.Struct("!BBHIHBBBBBB")
_TYPE_OF: Final = {"downlink": 0x00, "uplink": 0x10}

Direction = Literal["downlink", "uplink"]


class NotGtpu(ValueError):
    """A datagram that is no G-PDU; the text says why."""


def encapsulate(teid: int, packet: bytes, direction: Direction, qfi: int = 9) -> bytes:
    """Return the G-PDU that carries `packet` through the tunnel `teid` in the QoS flow `qfi`."""
    size = _WITH_CONTAINER.size - _HEADER.size + len(packet)
    kind = _TYPE_OF[direction]
    flags = _VERSION_1_PT | _EXTENSION
    header = _WITH_CONTAINER.pack(
        flags, G_PDU, size, teid, 0, 0, _PDU_SESSION_CONTAINER, 1, kind, qfi & 0x3F, 0
    )  # fmt: skip
    return header + packet


def decapsulate(datagram: bytes) -> tuple[int, bytes]:
    """Return the tunnel and the packet in it, past whatever extension headers there are.

    Raises:
        NotGtpu: the datagram is of another version or type, or shorter than it says.
    """
    if len(datagram) < _HEADER.size:
        raise NotGtpu(f"{len(datagram)} bytes are no GTP-U header")
    flags, kind, size, teid = _HEADER.unpack_from(datagram)
    if flags & 0xF0 != _VERSION_1_PT or kind != G_PDU:
        raise NotGtpu(f"flags {flags:#04x}, message type {kind}: no G-PDU of GTP version 1")
    if _HEADER.size + size != len(datagram):
        raise NotGtpu(f"it says {size} bytes and has {len(datagram) - _HEADER.size}")
    return teid, datagram[_payload_at(datagram, flags) :]


def _payload_at(datagram: bytes, flags: int) -> int:
    at = _HEADER.size
    if not flags & _ANY_OPTION:
        return at
    at += _OPTIONS_SIZE
    if at > len(datagram):
        raise NotGtpu("its optional fields are cut off")
    more = datagram[at - 1] if flags & _EXTENSION else 0
    while more:
        if at >= len(datagram) or datagram[at] == 0:
            raise NotGtpu(f"extension header {more:#04x} is cut off or of length 0")
        at += 4 * datagram[at]
        if at > len(datagram):
            raise NotGtpu(f"extension header {more:#04x} is cut off")
        more = datagram[at - 1]
    return at
