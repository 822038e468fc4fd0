import pytest

from microopt_collector.sources.base import Rejected
from microopt_collector.sources.cgroup_files import Rates, Reading, rates, read

STAT = "usage_usec 1500000\nuser_usec 1\nsystem_usec 2\nnr_periods 100\nnr_throttled 40\nthrottled_usec 9\n"
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"


def reading(at_s: float = 0.0, usage: int = 0, **counters: int | None) -> Reading:
    found: dict[str, int | None] = {"periods": 0, "throttled": 0, "waited_us": 0}
    return Reading(at_s=at_s, usage_us=usage, **(found | counters))


def test_the_kernels_files_are_read(tmp_path):
    (tmp_path / "cpu.stat").write_text(STAT)
    (tmp_path / "cpu.pressure").write_text(PRESSURE)
    assert read(tmp_path, "/", 3.0) == reading(3.0, 1_500_000, periods=100, throttled=40, waited_us=250_000)


def test_without_psi_and_without_a_quota_there_is_usage_alone(tmp_path):
    (tmp_path / "cpu.stat").write_text("usage_usec 5\nuser_usec 5\n")
    assert read(tmp_path, "/", 3.0) == reading(3.0, 5, periods=None, throttled=None, waited_us=None)


@pytest.mark.parametrize(("counting", "limiting"), [("cpuacct", "cpu"), ("cpu,cpuacct", "cpu,cpuacct")])
def test_where_cpu_is_v1s_both_its_hierarchies_are_read(tmp_path, counting, limiting):
    for hierarchy in (counting, limiting):
        (tmp_path / hierarchy / "gnb").mkdir(parents=True, exist_ok=True)
    (tmp_path / counting / "gnb" / "cpuacct.usage").write_text("1500000999\n")
    (tmp_path / limiting / "gnb" / "cpu.stat").write_text("nr_periods 100\nnr_throttled 40\nthrottled_time 9\n")
    found = read(tmp_path, "/gnb", 3.0)
    assert found == reading(3.0, 1_500_000, periods=100, throttled=40, waited_us=None)


def test_a_group_that_v1_counts_and_does_not_limit_has_usage_alone(tmp_path):
    (tmp_path / "cpuacct" / "gnb").mkdir(parents=True)
    (tmp_path / "cpuacct" / "gnb" / "cpuacct.usage").write_text("5000\n")
    assert read(tmp_path, "gnb", 3.0) == reading(3.0, 5, periods=None, throttled=None, waited_us=None)


@pytest.mark.parametrize(
    ("stat", "reason", "text"),
    [
        (None, "error", "there is no such cgroup"),
        ("user_usec 5\n", "missing_field", "is this cgroup v2"),
        ("usage_usec much\n", "not_a_number", "not as the kernel writes it"),
    ],
)
def test_what_is_no_cgroup_is_rejected(tmp_path, stat, reason, text):
    if stat:
        (tmp_path / "cpu.stat").write_text(stat)
    with pytest.raises(Rejected, match=text) as caught:
        read(tmp_path, "", 0.0)
    assert caught.value.reason == reason


def test_rates_are_millicores_and_shares():
    after = reading(2.0, 3_000_000, periods=20, throttled=5, waited_us=500_000)
    assert rates(reading(), after) == Rates(usage_millicores=1500.0, throttled=0.25, pressure=0.25)


def test_a_share_of_nothing_is_unknown_and_none_is_above_one():
    assert rates(reading(), reading(1.0)).throttled is None
    assert rates(reading(), reading(1.0, waited_us=1_000_100)).pressure == 1.0
    assert rates(reading(waited_us=None), reading(1.0)).pressure is None


@pytest.mark.parametrize("counter", ["usage", "periods", "throttled", "waited_us"])
def test_a_counter_that_went_back_is_another_cgroup(counter):
    with pytest.raises(Rejected, match="went back") as caught:
        rates(reading(**{counter: 9}), reading(1.0))
    assert caught.value.reason == "reset"
