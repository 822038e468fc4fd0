"""What UEs get is counted, recordings are read, and videos have segments."""

import json
import struct

import pytest

from microopt.errors import ConfigError
from microopt_testbed.live import dash, pcap
from microopt_testbed.live.goodput import Goodput, UeSlot, mean_mbps
from microopt_testbed.live.replay import payload_bytes


def capture(*packets: tuple[float, int], magic: bytes = b"\xd4\xc3\xb2\xa1", order: str = "<", scale: float = 1e6):
    data = magic + struct.pack(f"{order}HHiIII", 2, 4, 0, 0, 65535, 1)
    for at_s, size in packets:
        kept = min(size, 96)
        data += struct.pack(f"{order}IIII", int(at_s), round(at_s % 1 * scale), kept, size) + bytes(kept)
    return data


def test_throughput_counts_the_time_in_which_data_was_wanted():
    one = Goodput()
    one.want(10.0)
    one.received += 500_000
    one.have_enough(10.5)
    assert one.close(11.0) == UeSlot(500_000, 0.5)
    one.want(11.25)
    assert one.close(12.0) == UeSlot(0, 0.75)  # a fetch that goes on is both slots'
    one.have_enough(12.125)
    assert one.close(13.0) == UeSlot(0, 0.125)


def test_the_mean_leaves_out_ues_that_wanted_nothing():
    slots = [UeSlot(500_000, 1.0), UeSlot(250_000, 0.5), UeSlot(125_000, 0.1)]
    assert mean_mbps(slots, 1.0) == pytest.approx(4.0)
    assert mean_mbps(slots[2:], 1.0) is None
    assert mean_mbps([], 1.0) is None
    assert mean_mbps([UeSlot(0, 1.0)], 1.0) == 0.0


@pytest.mark.parametrize(
    ("magic", "order", "scale"),
    [
        (b"\xd4\xc3\xb2\xa1", "<", 1e6),
        (b"\xa1\xb2\xc3\xd4", ">", 1e6),
        (b"\x4d\x3c\xb2\xa1", "<", 1e9),
        (b"\xa1\xb2\x3c\x4d", ">", 1e9),
    ],
)
def test_captures_of_both_byte_orders_and_resolutions_are_read(tmp_path, magic, order, scale):
    file = tmp_path / "one.pcap"
    packets = [(100.25, 1514), (100.5, 60)]
    file.write_bytes(capture(*reversed(packets), magic=magic, order=order, scale=scale))
    (first, second) = pcap.read(file)
    assert (first, second) == ((0.0, 1514), (pytest.approx(0.25), 60))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no pcap file"),
        (b"<html>", "no pcap file"),
        (b"\x0a\x0d\x0d\x0a" + bytes(40), "editcap"),
        (capture(), "no packet"),
        (capture((1.0, 200))[:-1], "cut off"),
        (capture((1.0, 200))[:30], "cut off"),
    ],
)
def test_what_is_no_capture_is_refused_with_a_remedy(tmp_path, data, said):
    file = tmp_path / "one.pcap"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=said):
        pcap.read(file)


def test_a_capture_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pcap: No such file"):
        pcap.read(tmp_path / "none.pcap")


def test_replayed_packets_are_as_long_as_they_were_and_fit_the_tunnel():
    assert payload_bytes(542) == 500
    assert payload_bytes(1514) == 1372
    assert payload_bytes(20) == 1


def test_segments_are_those_of_the_movie_at_hand(tmp_path):
    (tmp_path / "dash").mkdir()
    movie = {"segment_duration_ms": 3000, "bitrates_kbps": [1000, 16000], "segment_sizes_bits": [[1, 2], [3, 4]]}
    (tmp_path / "dash" / "bbb4k.json").write_text(json.dumps(movie))
    assert dash.segments_bits(tmp_path) == (2, 4)
    with pytest.raises(ConfigError, match="20000 kbit/s or more"):
        dash.segments_bits(tmp_path, 20_000)


def test_without_a_movie_segments_are_drawn_and_of_its_bitrate(tmp_path):
    drawn = dash.segments_bits(tmp_path, 8_000)
    assert sum(drawn) / len(drawn) == pytest.approx(24e6, rel=0.05)
    assert drawn == dash.segments_bits(tmp_path, 8_000)
    assert len(set(drawn)) > 100
