import errno
import math
import os
from pathlib import Path

import pytest

from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt_actuator.drivers.base import Driver
from microopt_actuator.drivers.cgroup import CgroupCpu, CgroupDriver
from microopt_actuator.drivers.cgroup_files import CpuLimit, parse_cpu_max, refusal, v1_orders
from microopt_actuator.drivers.cgroup_tree import CgroupTree

QUOTA = "cpu.cfs_quota_us"
PERIOD = "cpu.cfs_period_us"


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    return tmp_path


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    set_v1(tmp_path / "cpu")
    return tmp_path


def set_v2(directory: Path, text: str = "max 100000") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "cpu.max").write_text(f"{text}\n")
    return directory


def set_v1(directory: Path, quota_us: int = -1, period_us: int = 100_000) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / QUOTA).write_text(f"{quota_us}\n")
    (directory / PERIOD).write_text(f"{period_us}\n")
    return directory


def cpu_max(directory: Path) -> str:
    return (directory / "cpu.max").read_text().strip()


def quota_and_period(directory: Path) -> tuple[int, int]:
    return int((directory / QUOTA).read_text()), int((directory / PERIOD).read_text())


def test_v2_gets_quota_and_period_in_one_line(v2: Path):
    pod = set_v2(v2 / "pod1")
    CgroupCpu(root=v2).write_millicores("/pod1", 1500)
    assert cpu_max(pod) == "150000 100000"


def test_v1_gets_quota_and_period_in_their_files(v1: Path):
    pod = set_v1(v1 / "cpu" / "pod1", period_us=50_000)
    CgroupCpu(root=v1).write_millicores("/pod1", 1500)
    assert quota_and_period(pod) == (150_000, 100_000)


@pytest.mark.parametrize("period_us", [1_000, 10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("millicores", [1000.0, 1234.56789, 3999.9951, 4500.0049])
def test_what_is_read_back_is_within_the_tolerance(v2: Path, period_us: int, millicores: float):
    set_v2(v2 / "pod1")
    cpu = CgroupCpu(root=v2, period_us=period_us)
    cpu.write_millicores("/pod1", millicores)
    observed = cpu.read_millicores("/pod1")
    assert observed is not None
    assert abs(observed - millicores) <= cpu.tolerance_millicores(millicores)


def test_the_tolerance_is_half_a_microsecond_of_quota():
    assert CgroupCpu().tolerance_millicores(1000.0) == pytest.approx(0.005, rel=1e-6)


def test_a_quota_is_rounded_to_the_nearest_microsecond(v2: Path):
    pod = set_v2(v2 / "pod1")
    CgroupCpu(root=v2).write_millicores("/pod1", 1000.006)
    assert cpu_max(pod) == "100001 100000"


def test_a_limit_that_is_in_force_is_not_written_again(v2: Path):
    pod = set_v2(v2 / "pod1")
    cpu = CgroupCpu(root=v2)
    cpu.write_millicores("/pod1", 300)
    os.utime(pod / "cpu.max", ns=(1, 1))
    cpu.write_millicores("/pod1", 300)
    assert (pod / "cpu.max").stat().st_mtime_ns == 1


def test_the_same_millicores_with_another_period_are_written(v2: Path):
    pod = set_v2(v2 / "pod1", "30000 100000")
    CgroupCpu(root=v2, period_us=10_000).write_millicores("/pod1", 300)
    assert cpu_max(pod) == "3000 10000"


def test_no_limit_reads_as_none(v2: Path):
    set_v2(v2 / "pod1")
    assert CgroupCpu(root=v2).read_millicores("/pod1") is None


def test_no_limit_in_v1_reads_as_none(v1: Path):
    set_v1(v1 / "cpu" / "pod1")
    assert CgroupCpu(root=v1).read_millicores("/pod1") is None


def test_a_limit_with_any_period_reads_in_millicores(v2: Path):
    set_v2(v2 / "pod1", "5000 20000")
    assert CgroupCpu(root=v2).read_millicores("/pod1") == 250.0


def test_a_narrower_group_above_rules_the_reading(v2: Path):
    set_v2(set_v2(v2 / "pods", "50000 100000") / "pod1", "150000 100000")
    assert CgroupCpu(root=v2).read_millicores("/pods/pod1") == 500.0


def test_an_unlimited_v1_group_reads_its_parents_limit(v1: Path):
    set_v1(set_v1(v1 / "cpu" / "pods", 50_000) / "pod1")
    assert CgroupCpu(root=v1).read_millicores("/pods/pod1") == 500.0


def test_v2_takes_a_wish_above_the_parent_and_the_reading_shows_the_parent(v2: Path):
    pods = set_v2(v2 / "pods", "50000 100000")
    pod = set_v2(pods / "pod1")
    cpu = CgroupCpu(root=v2)
    cpu.write_millicores("/pods/pod1", 1500)
    assert cpu_max(pod) == "150000 100000"
    assert cpu_max(pods) == "50000 100000"
    assert cpu.read_millicores("/pods/pod1") == 500.0


def test_v1_refuses_a_wish_above_the_parent_and_names_it_its_limit_and_the_remedy(v1: Path):
    pod = set_v1(set_v1(v1 / "cpu" / "pods", 50_000) / "pod1", 20_000)
    with pytest.raises(PermanentError, match=r"1500 .* /pods has \(500\).* set raise_parents"):
        CgroupCpu(root=v1).write_millicores("/pods/pod1", 1500)
    assert quota_and_period(pod) == (20_000, 100_000)


def test_parents_are_raised_as_far_as_needed_and_lowered_to_what_they_were(v1: Path):
    pods = set_v1(v1 / "cpu" / "pods", 15_000, 30_000)
    pod = set_v1(pods / "pod1", 20_000)
    cpu = CgroupCpu(root=v1, raise_parents=True)
    cpu.write_millicores("/pods/pod1", 1500)
    assert (quota_and_period(pods), quota_and_period(pod)) == ((45_000, 30_000), (150_000, 100_000))
    cpu.write_millicores("/pods/pod1", 800)
    assert quota_and_period(pods) == (24_000, 30_000)
    cpu.write_millicores("/pods/pod1", 300)
    assert quota_and_period(pods) == (15_000, 30_000)


def test_a_parent_that_is_raised_twice_is_still_lowered_to_what_it_was_first(v1: Path):
    pods = set_v1(v1 / "cpu" / "pods", 50_000)
    set_v1(pods / "pod1", 10_000)
    cpu = CgroupCpu(root=v1, raise_parents=True)
    for millicores in (1500, 2500, 100):
        cpu.write_millicores("/pods/pod1", millicores)
    assert quota_and_period(pods) == (50_000, 100_000)


def test_a_raised_parent_is_never_a_fraction_short_of_its_child(v1: Path):
    pods = set_v1(v1 / "cpu" / "pods", 10_000, 30_000)
    set_v1(pods / "pod1", 10_000)
    cpu = CgroupCpu(root=v1, raise_parents=True)
    cpu.write_millicores("/pods/pod1", 1000.01)
    assert quota_and_period(pods) == (30_001, 30_000)
    assert cpu.read_millicores("/pods/pod1") == 1000.01


def test_parents_on_every_level_are_raised_also_in_v2(v2: Path):
    pods = set_v2(v2 / "pods", "50000 100000")
    set_v2(set_v2(pods / "pod1", "40000 100000") / "gnb")
    cpu = CgroupCpu(root=v2, raise_parents=True)
    cpu.write_millicores("/pods/pod1/gnb", 1500)
    assert cpu.read_millicores("/pods/pod1/gnb") == 1500.0
    cpu.write_millicores("/pods/pod1/gnb", 100)
    assert (cpu_max(pods), cpu_max(pods / "pod1")) == ("50000 100000", "40000 100000")


def test_a_raised_parent_stays_wide_enough_for_its_other_children(v1: Path):
    pods = set_v1(v1 / "cpu" / "pods", 50_000)
    set_v1(pods / "pod1", 10_000)
    set_v1(pods / "pod2", 10_000)
    cpu = CgroupCpu(root=v1, raise_parents=True)
    cpu.write_millicores("/pods/pod1", 1500)
    cpu.write_millicores("/pods/pod2", 900)
    cpu.write_millicores("/pods/pod1", 100)
    assert quota_and_period(pods) == (90_000, 100_000)
    cpu.write_millicores("/pods/pod2", 100)
    assert quota_and_period(pods) == (50_000, 100_000)


def test_a_parent_that_someone_else_has_set_since_is_left_alone(v1: Path):
    pods = set_v1(v1 / "cpu" / "pods", 50_000)
    set_v1(pods / "pod1", 10_000)
    cpu = CgroupCpu(root=v1, raise_parents=True)
    cpu.write_millicores("/pods/pod1", 1500)
    set_v1(pods, 400_000)
    cpu.write_millicores("/pods/pod1", 100)
    assert quota_and_period(pods) == (400_000, 100_000)


def test_parents_are_raised_only_where_they_are_narrower(v1: Path):
    pods = set_v1(v1 / "cpu" / "pods", 200_000)
    set_v1(pods / "pod1", 10_000)
    CgroupCpu(root=v1, raise_parents=True).write_millicores("/pods/pod1", 1500)
    assert quota_and_period(pods) == (200_000, 100_000)


def test_a_parent_is_lowered_again_when_the_child_refuses(v2: Path):
    pods = set_v2(v2 / "pods", "50000 100000")
    pod = set_v2(pods / "pod1", "20000 100000")
    (pod / "cpu.max").rename(v2 / "elsewhere")
    (pod / "cpu.max").symlink_to(v2 / "elsewhere")
    with pytest.raises(PermanentError, match="symbolic link"):
        CgroupCpu(root=v2, raise_parents=True).write_millicores("/pods/pod1", 1500)
    assert cpu_max(pods) == "50000 100000"
    assert (v2 / "elsewhere").read_text() == "20000 100000\n"


@pytest.mark.parametrize("millicores", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_what_is_no_limit_is_refused(v2: Path, millicores: float):
    pod = set_v2(v2 / "pod1")
    with pytest.raises(PermanentError, match="not a CPU limit"):
        CgroupCpu(root=v2).write_millicores("/pod1", millicores)
    assert cpu_max(pod) == "max 100000"


@pytest.mark.parametrize(
    ("period_us", "millicores", "least"), [(100_000, 9.99, "10"), (10_000, 99.9, "100"), (1_000, 999.0, "1000")]
)
def test_a_quota_below_the_kernels_least_is_refused_and_the_least_is_named(
    v2: Path, period_us: int, millicores: float, least: str
):
    set_v2(v2 / "pod1")
    with pytest.raises(PermanentError, match=f"outside {least} to"):
        CgroupCpu(root=v2, period_us=period_us).write_millicores("/pod1", millicores)


def test_the_bounds_of_the_quota_are_themselves_allowed(v2: Path):
    pod = set_v2(v2 / "pod1")
    cpu = CgroupCpu(root=v2)
    cpu.write_millicores("/pod1", 10)
    assert cpu_max(pod) == "1000 100000"
    cpu.write_millicores("/pod1", (2**44 - 1) / 100)
    assert cpu_max(pod) == f"{2**44 - 1} 100000"
    with pytest.raises(PermanentError, match="outside 10 to"):
        cpu.write_millicores("/pod1", 2**44 / 100)


@pytest.mark.parametrize("period_us", [0, 999, 1_000_001])
def test_a_period_that_the_kernel_does_not_take_is_refused_at_the_start(period_us: int):
    with pytest.raises(ConfigError, match="period_us"):
        CgroupCpu(period_us=period_us)


def test_a_group_that_can_be_written_is_found_so_without_a_write(v1: Path):
    pod = set_v1(v1 / "cpu" / "pod1", 50_000)
    assert CgroupCpu(root=v1).why_not_writable("/pod1") == ""
    assert quota_and_period(pod) == (50_000, 100_000)


def test_a_group_that_goes_while_it_is_looked_at_is_a_temporary_error(v2: Path):
    pod = set_v2(v2 / "pod1")
    group = CgroupTree(v2, Path("/proc")).find("/pod1")
    (pod / "cpu.max").unlink()
    pod.rmdir()
    with pytest.raises(TemporaryError, match="it is gone"):
        group.why_not_writable()


@pytest.mark.parametrize("target", ["/pod1", "pid:99"])
def test_a_missing_target_is_a_temporary_error_for_reading_and_writing(v2: Path, target: str):
    cpu = CgroupCpu(root=v2, proc=v2 / "proc")
    with pytest.raises(TemporaryError):
        cpu.read_millicores(target)
    with pytest.raises(TemporaryError):
        cpu.write_millicores(target, 100)


def test_a_file_that_says_something_else_is_named(v2: Path):
    set_v2(v2 / "pod1", "plenty")
    with pytest.raises(PermanentError, match=r"pod1.*plenty"):
        CgroupCpu(root=v2).read_millicores("/pod1")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max 100000\n", CpuLimit(None, 100_000)),
        ("30000 100000\n", CpuLimit(30_000, 100_000)),
        ("1000 1000", CpuLimit(1_000, 1_000)),
    ],
)
def test_cpu_max_is_quota_and_period(text: str, limit: CpuLimit):
    assert parse_cpu_max(text) == limit


@pytest.mark.parametrize("text", ["", "max", "1 2 3", "most 100000", "100 0"])
def test_what_is_no_cpu_max_is_refused(text: str):
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_max(text)


@pytest.mark.parametrize(
    ("now", "limit", "first"),
    [
        (CpuLimit(100_000, 100_000), CpuLimit(5_000, 10_000), PERIOD),
        (CpuLimit(5_000, 10_000), CpuLimit(50_000, 100_000), QUOTA),
    ],
)
def test_the_first_v1_order_gives_more_meanwhile_rather_than_less(now: CpuLimit, limit: CpuLimit, first: str):
    orders = v1_orders(now, limit)
    assert orders[0][0][0] == first
    assert [file for file, _ in orders[-1]] == [QUOTA, PERIOD, QUOTA]


def test_the_period_is_not_written_in_v1_when_it_stays():
    assert v1_orders(CpuLimit(None, 100_000), CpuLimit(5_000, 100_000)) == [[(QUOTA, "5000")]]


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (errno.ENOENT, TemporaryError, "come back"),
        (errno.ENODEV, TemporaryError, "come back"),
        (errno.EACCES, PermanentError, "run the actuator as root"),
        (errno.EROFS, PermanentError, "read-write"),
        (errno.EINVAL, PermanentError, "does not take"),
        (errno.EIO, TemporaryError, "writing 5"),
    ],
)
def test_what_the_kernel_says_becomes_an_error_with_a_remedy(code: int, kind: type[Exception], remedy: str):
    error = refusal(OSError(code, os.strerror(code)), Path("/pod1"), "writing 5")
    assert type(error) is kind
    assert "/pod1" in str(error)
    assert os.strerror(code) in str(error)
    assert remedy in str(error)


async def test_the_driver_says_what_it_will_write_then_writes_then_reads(v2: Path):
    pod = set_v2(v2 / "pod1")
    driver: Driver = CgroupDriver(CgroupCpu(root=v2))
    write = await driver.plan("/pod1", 200.004)
    assert (write.holds, write.steps) == (200.0, (f"{pod}/cpu.max: 20000 100000",))
    assert cpu_max(pod) == "max 100000"
    await driver.apply(write)
    assert cpu_max(pod) == "20000 100000"
    assert write.is_held_by(await driver.read("/pod1"))
    assert (await driver.plan("/pod1", 200.0)).steps == ()


async def test_the_driver_says_which_parents_it_will_widen(v1: Path):
    pods = set_v1(v1 / "cpu" / "pods", 50_000)
    pod = set_v1(pods / "pod1", 20_000)
    driver = CgroupDriver(CgroupCpu(root=v1, raise_parents=True))
    assert (await driver.plan("/pods/pod1", 1500)).steps == (
        f"{pods}/{QUOTA}: 150000, {PERIOD}: 100000",
        f"{pod}/{QUOTA}: 150000, {PERIOD}: 100000",
    )
