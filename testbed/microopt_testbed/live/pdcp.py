"""What a gNB does to each packet: a PDCP sequence number (TS 38.323) and ciphering by 128-NEA2 (TS 33.501)."""

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

UPLINK: Final = 0
DOWNLINK: Final = 1
HEADER_BYTES: Final = 3
"""A data PDU with a sequence number of 18 bits."""

_SN_BITS: Final = 18
_SN_MASK: Final = (1 << _SN_BITS) - 1
_WINDOW: Final = 1 << (_SN_BITS - 1)
_COUNT_MASK: Final = 0xFFFF_FFFF
_DATA: Final = 0x80_0000


class NotPdcp(ValueError):
    """A PDU that is no data PDU; the text says why."""


def nea2(key: AES, count: int, bearer: int, direction: int, data: bytes) -> bytes:
    """Return `data` ciphered, or deciphered: AES-CTR from COUNT ‖ BEARER ‖ DIRECTION (TS 33.501 D.2.1.3)."""
    block = count << 96 | bearer << 91 | direction << 90
    return Cipher(key, modes.CTR(block.to_bytes(16, "big"))).encryptor().update(data)


class Sender:
    """One direction of a radio bearer, where packets come in."""

    def __init__(self, key: bytes, bearer: int, direction: int) -> None:
        self._key, self._bearer, self._direction = AES(key), bearer, direction
        self._next = 0

    def pdu(self, packet: bytes) -> bytes:
        """Return the PDU of the next packet."""
        count, self._next = self._next, (self._next + 1) & _COUNT_MASK
        header = (_DATA | count & _SN_MASK).to_bytes(HEADER_BYTES, "big")
        return header + nea2(self._key, count, self._bearer, self._direction, packet)


class Receiver:
    """One direction of a radio bearer, where packets come out; PDUs may be missing."""

    def __init__(self, key: bytes, bearer: int, direction: int) -> None:
        self._key, self._bearer, self._direction = AES(key), bearer, direction
        self._deliver = 0

    def packet(self, pdu: bytes) -> bytes:
        """Return the packet of a PDU, whose full COUNT follows from those before it (TS 38.323 §5.2.2.1).

        Raises:
            NotPdcp: it is a control PDU, or too short.
        """
        if len(pdu) < HEADER_BYTES or not pdu[0] & 0x80:
            raise NotPdcp(f"{len(pdu)} bytes are no PDCP data PDU")
        count = self._count(int.from_bytes(pdu[:HEADER_BYTES], "big") & _SN_MASK)
        self._deliver = max(self._deliver, count + 1)
        return nea2(self._key, count, self._bearer, self._direction, pdu[HEADER_BYTES:])

    def _count(self, sn: int) -> int:
        hfn, expected = self._deliver >> _SN_BITS, self._deliver & _SN_MASK
        if sn < expected - _WINDOW:
            hfn += 1
        elif sn >= expected + _WINDOW and hfn:
            hfn -= 1
        return hfn << _SN_BITS | sn
