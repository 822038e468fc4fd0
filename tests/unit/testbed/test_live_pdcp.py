import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from microopt_testbed.live.pdcp import DOWNLINK, UPLINK, NotPdcp, Receiver, Sender, nea2

KEY = bytes(range(16))


def test_ciphering_is_128_nea2():
    # Test set 1 of TS 33.401 C.1, which TS 33.501 D.4 refers to: 253 bits.
    plain = bytes.fromhex("981ba6824c1bfb1ab485472029b71d808ce33e2cc3c0b5fc1f3de8a6dc66b1f0")
    ciphered = bytes.fromhex("e9fed8a63d155304d71df20bf3e82214b20ed7dad2f233dc3c22d7bdeeed8e78")
    key = AES(bytes.fromhex("d3c5d592327fb11c4035c6680af8c6d1"))
    said = nea2(key, 0x398A59B4, 0x15, 1, plain)
    assert said[:-1] == ciphered[:-1]
    assert said[-1] & 0xF8 == ciphered[-1]  # the last three bits are none of the message


def test_packets_come_out_as_they_went_in():
    sender, receiver = Sender(KEY, 1, DOWNLINK), Receiver(KEY, 1, DOWNLINK)
    for packet in (b"first", b"", b"second"):
        pdu = sender.pdu(packet)
        assert packet == b"" or packet not in pdu
        assert receiver.packet(pdu) == packet


def test_the_same_packet_never_looks_the_same():
    sender = Sender(KEY, 1, UPLINK)
    assert sender.pdu(b"again")[3:] != sender.pdu(b"again")[3:]


def test_another_direction_or_key_reads_nothing():
    pdu = Sender(KEY, 1, DOWNLINK).pdu(b"a packet")
    assert Receiver(KEY, 1, UPLINK).packet(pdu) != b"a packet"
    assert Receiver(bytes(16), 1, DOWNLINK).packet(pdu) != b"a packet"


def test_lost_and_late_packets_do_not_matter():
    sender, receiver = Sender(KEY, 1, DOWNLINK), Receiver(KEY, 1, DOWNLINK)
    pdus = [sender.pdu(bytes([n])) for n in range(10)]
    assert [receiver.packet(pdus[n]) for n in (0, 5, 4, 9, 1)] == [bytes([n]) for n in (0, 5, 4, 9, 1)]


def test_the_count_goes_on_where_the_sequence_number_begins_anew():
    sender, receiver = Sender(KEY, 1, DOWNLINK), Receiver(KEY, 1, DOWNLINK)
    sender._next = receiver._deliver = (1 << 18) - 2
    pdus = [sender.pdu(bytes([n])) for n in range(4)]
    assert [receiver.packet(pdus[n]) for n in (0, 2, 1, 3)] == [b"\0", b"\2", b"\1", b"\3"]


@pytest.mark.parametrize("pdu", [b"", b"\x80\x00", b"\x00\x00\x01packet"])
def test_what_is_no_data_pdu_is_refused(pdu):
    with pytest.raises(NotPdcp):
        Receiver(KEY, 1, DOWNLINK).packet(pdu)
