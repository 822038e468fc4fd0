import random

import pytest

from microopt.errors import PermanentError
from microopt_actuator.drivers.tc_class import HtbClass, burst_bytes, burst_ticks, mbps, parse_class, rate_of
from microopt_actuator.drivers.tc_target import TcTarget, class_id, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("eth0/1:10", TcTarget(None, "eth0", 0x1_0010)),
        ("n3-upf1.100/ffff:FFFE", TcTarget(None, "n3-upf1.100", 0xFFFF_FFFE)),
        ("netns:upf1/eth0/1:10", TcTarget("upf1", "eth0", 0x1_0010)),
    ],
)
def test_a_target_names_namespace_interface_and_class_in_hexadecimal(text: str, target: TcTarget):
    assert parse_target(text) == target
    assert str(target) == text.lower()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no interface's name"),
        ("eth0", "'' is no class id"),
        ("eth0/", "'' is no class id"),
        ("eth0/10", "'10' is no class id"),
        ("eth0/1:", "'1:' is no class id"),
        ("eth0/1:0", "is no class, both numbers must be above 0"),
        ("eth0/0:1", "is no class, both numbers must be above 0"),
        ("eth0/1:1xyz", "is no class id"),
        ("eth0/1:10000", "is no class id"),
        ("eth0/1:10/x", "is no class id"),
        ("eth0/1:10\n", "is no class id"),
        ("eth 0/1:10", "no interface's name"),
        ("eth0:1/1:10", "no interface's name"),
        ("an-interface-name/1:10", "no interface's name"),
        ("../1:10", "no interface's name"),
        ("netns:/eth0/1:10", "no network namespace's name"),
        ("netns:../eth0/1:10", "no network namespace's name"),
        ("netns:upf1/1:10", "no interface's name"),
        ("netns:/run/x/eth0/1:10", "no network namespace's name"),
    ],
)
def test_what_is_no_target_is_refused_with_the_notation(text: str, why: str):
    with pytest.raises(PermanentError, match=f"{why}.*write <interface>/<class id> as eth0/1:10"):
        parse_target(text)


def test_a_class_id_is_written_as_tc_does():
    assert class_id(0x1_0010) == "1:10"


@pytest.mark.parametrize(
    ("value", "rate"), [(1, 125_000), (0.000008, 1), (33.333333, 4_166_667), (100_000, 12_500_000_000)]
)
def test_a_rate_is_the_nearest_whole_number_of_bytes(value: float, rate: int):
    assert rate_of(value) == rate
    assert mbps(rate) == pytest.approx(value, abs=4.01e-6)


@pytest.mark.parametrize("size", [0, 1, 1600, 6144, 15_360, 65_536, 1_000_000])
@pytest.mark.parametrize("rate", [125, 125_000, 12_500_000])
def test_a_burst_is_recognised_at_rates_where_a_tick_is_less_than_a_byte(size: int, rate: int):
    found = burst_bytes(burst_ticks(size, rate), rate)
    assert found == pytest.approx(size, abs=2)


def test_a_burst_does_not_wander_off_in_thousands_of_changes():
    rates = random.Random(1)
    for size in (1_600, 1_999, 15_000, 100_001):
        burst = size
        for _ in range(10_000):
            rate = int(10 ** rates.uniform(4, 9.1))  # 80 kbit/s to 10 Gbit/s
            burst = burst_bytes(burst_ticks(burst, rate), rate)
        assert burst == pytest.approx(size, abs=200)  # 2.5 ticks at 10 Gbit/s; plain rounding ends 1000 away


def test_a_burst_of_nothing_stays_nothing_and_one_of_a_tick_stays_something():
    assert burst_bytes(0, 10**9) == 0
    assert burst_bytes(1, 10**10) > 0


def make_class(rate: int = 1_250_000, **parameters: int) -> HtbClass:
    fields = {"buffer": burst_ticks(1600, rate), "cbuffer": burst_ticks(1600, rate), "prio": 3, "quantum": 3000}
    return HtbClass(
        index=7, handle=0x1_0010, parent=0x1_0001, rate=rate, ceil=rate, parameters={**fields, **parameters}
    )


def test_another_rate_keeps_place_priority_quantum_and_bursts():
    before = make_class()
    after = before.at(rate_of(1000))
    assert (after.rate, after.ceil) == (125_000_000, 125_000_000)
    assert (after.index, after.handle, after.parent) == (before.index, before.handle, before.parent)
    assert (after.parameters["prio"], after.parameters["quantum"]) == (3, 3000)
    assert (after.burst, after.cburst) == (before.burst, before.cburst)


def test_a_burst_that_takes_longer_than_the_kernel_counts_is_refused():
    make_class().at(6)
    with pytest.raises(PermanentError, match=r"too slow for a burst of 1600 bytes.*raise the slice's floor"):
        make_class().at(5)


@pytest.mark.parametrize("rate", [1, 125_000, 2**32 - 1, 2**32, 12_500_000_000])
def test_what_is_sent_is_what_is_read_back(rate: int):
    sent = make_class(buffer=1, cbuffer=1).at(rate)
    message = sent.request()
    message.encode()
    decoded = type(message)(message.data)
    decoded.decode()
    read = parse_class(decoded)
    assert read is not None
    assert (read.index, read.handle, read.parent) == (7, 0x1_0010, 0x1_0001)
    assert (read.rate, read.ceil) == (rate, rate)
    assert {name: read.parameters[name] for name in sent.parameters} == dict(sent.parameters)


def test_a_class_of_another_kind_is_none():
    message = make_class().request()
    message["attrs"] = [["TCA_KIND", "hfsc"]]
    message.encode()
    decoded = type(message)(message.data)
    decoded.decode()
    assert parse_class(decoded) is None
