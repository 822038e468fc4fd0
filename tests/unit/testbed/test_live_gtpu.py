import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microopt_testbed.live.gtpu import NotGtpu, decapsulate, encapsulate

PACKET = bytes(range(40))


@given(teid=st.integers(0, 2**32 - 1), packet=st.binary(max_size=1500), up=st.booleans(), qfi=st.integers(0, 63))
def test_what_goes_into_a_tunnel_comes_out_of_it(teid, packet, up, qfi):
    assert decapsulate(encapsulate(teid, packet, "uplink" if up else "downlink", qfi)) == (teid, packet)


def test_a_downlink_packet_is_as_n3_carries_it():
    # TS 29.281 §5.1 and TS 38.415 §5.5.2.1: flags, type, length; TEID; no sequence, no N-PDU, container; QFI 9.
    wire = bytes.fromhex("34ff 0030 00002001 0000 00 85 01 00 09 00") + PACKET
    assert encapsulate(0x2001, PACKET, "downlink", 9) == wire


def test_a_packet_without_options_is_taken():
    assert decapsulate(bytes.fromhex("30ff 0028 00000007") + PACKET) == (7, PACKET)


def test_several_extension_headers_are_passed_over():
    # A long PDCP PDU number (0x82, 8 bytes) before the container.
    chain = bytes.fromhex("0000 00 82" + "02 000001 000000 85" + "01 00 09 00")
    datagram = struct.pack("!BBHI", 0x34, 0xFF, len(chain) + len(PACKET), 7) + chain + PACKET
    assert decapsulate(datagram) == (7, PACKET)


@pytest.mark.parametrize(
    "datagram",
    [
        "",
        "30ff00",
        "30ff 0029 00000007" + PACKET.hex(),  # says more than there is
        "30ff 0027 00000007" + PACKET.hex(),  # says less
        "3001 0028 00000007" + PACKET.hex(),  # an echo request
        "50ff 0028 00000007" + PACKET.hex(),  # version 2
        "34ff 0002 00000007 0000",  # options cut off
        "34ff 0004 00000007 0000 00 85",  # the container is missing
        "34ff 0005 00000007 0000 00 85 00",  # of length 0, which would go on for ever
        "34ff 0006 00000007 0000 00 85 02 00",  # cut off
    ],
)
def test_what_is_no_g_pdu_is_refused(datagram):
    with pytest.raises(NotGtpu):
        decapsulate(bytes.fromhex(datagram))


@given(st.binary(max_size=64))
def test_no_datagram_breaks_it(datagram):
    with contextlib.suppress(NotGtpu):
        decapsulate(datagram)
