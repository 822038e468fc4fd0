"""The cgroup driver on the kernel of this machine, v1 or v2, in a cgroup of its own."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.cgroup import CgroupCpu, CgroupDriver
from real.cgroups import hierarchy, unusable

pytestmark = pytest.mark.root

NAME = f"microopt-test-{os.getpid()}"
TARGET = f"/{NAME}"
WAIT_S = 60.0


@pytest.fixture
def cgroup() -> Iterator[Path]:
    directory = hierarchy() / NAME
    try:
        directory.mkdir()
    except OSError as error:
        unusable(f"cannot make {directory}: {error.strerror}")
    yield directory
    for path, _, _ in os.walk(directory, topdown=False):
        Path(path).rmdir()


@pytest.fixture
def busy(cgroup: Path) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            (cgroup / "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()
            process.wait()
            until(lambda: not (cgroup / "cgroup.procs").read_text(), "the cgroup is empty")


def until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > give_up:
            pytest.fail(f"waited {WAIT_S:g} s in vain until {what}")
        time.sleep(0.02)


def child_of(cgroup: Path) -> Path:
    child = cgroup / "child"
    if not is_v1(cgroup):
        (cgroup / "cgroup.subtree_control").write_text("+cpu")
    child.mkdir()
    return child


def throttled_periods(cgroup: Path) -> int:
    stat = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    return int(stat["nr_throttled"])


def is_v1(cgroup: Path) -> bool:
    return (cgroup / "cpu.cfs_quota_us").exists()


def burst_file(cgroup: Path) -> Path:
    return cgroup / ("cpu.cfs_burst_us" if is_v1(cgroup) else "cpu.max.burst")


async def test_a_busy_process_is_throttled_to_what_was_written(cgroup: Path, busy: int):
    driver = CgroupDriver(CgroupCpu())
    assert await driver.read(f"pid:{busy}") is None
    write = await driver.plan(f"pid:{busy}", 200)
    await driver.apply(write)
    observed = await driver.read(TARGET)
    assert observed is not None
    assert write.is_held_by(observed)
    until(lambda: throttled_periods(cgroup) > 0, "the kernel throttles")


@pytest.mark.usefixtures("cgroup")
@pytest.mark.parametrize("millicores", [10.0, 333.333, 1234.5678, 4000.0])
def test_the_kernel_keeps_a_value_within_the_tolerance(millicores: float):
    cpu = CgroupCpu()
    cpu.write_millicores(TARGET, millicores)
    observed = cpu.read_millicores(TARGET)
    assert observed is not None
    assert abs(observed - millicores) <= cpu.tolerance_millicores(millicores)


@pytest.mark.usefixtures("cgroup")
@pytest.mark.parametrize("period_us", [1_000, 10_000, 1_000_000])
def test_every_change_of_period_is_accepted_both_ways(period_us: int):
    usual, other = CgroupCpu(), CgroupCpu(period_us=period_us)
    usual.write_millicores(TARGET, 1000)
    other.write_millicores(TARGET, 2000)
    assert other.read_millicores(TARGET) == 2000.0
    usual.write_millicores(TARGET, 1000)
    assert usual.read_millicores(TARGET) == 1000.0


def test_the_period_changes_also_between_a_parent_and_a_child_without_slack(cgroup: Path):
    child_of(child_of(cgroup))
    targets = [TARGET, f"{TARGET}/child", f"{TARGET}/child/child"]
    for target in targets:
        CgroupCpu().write_millicores(target, 500)
    CgroupCpu(period_us=10_000).write_millicores(targets[1], 500)
    assert CgroupCpu().read_millicores(targets[1]) == 500.0


def test_a_wish_above_the_parent_is_refused_by_v1_and_read_as_the_parents_by_v2(cgroup: Path):
    child_of(cgroup)
    cpu = CgroupCpu()
    cpu.write_millicores(TARGET, 500)
    if is_v1(cgroup):
        with pytest.raises(PermanentError, match="than its parent"):
            cpu.write_millicores(f"{TARGET}/child", 800)
    else:
        cpu.write_millicores(f"{TARGET}/child", 800)
    assert cpu.read_millicores(f"{TARGET}/child") == 500.0


def test_raised_parents_let_the_wish_through_and_are_lowered_again(cgroup: Path):
    child_of(child_of(cgroup))
    cpu = CgroupCpu(raise_parents=True)
    top, middle, leaf = TARGET, f"{TARGET}/child", f"{TARGET}/child/child"
    cpu.write_millicores(top, 500)
    cpu.write_millicores(middle, 400)
    cpu.write_millicores(leaf, 800.01)
    assert cpu.read_millicores(leaf) == 800.01
    cpu.write_millicores(leaf, 100)
    assert [cpu.read_millicores(target) for target in (top, middle, leaf)] == [500.0, 400.0, 100.0]


def test_v1_names_the_child_that_keeps_its_parent_from_shrinking(cgroup: Path):
    child_of(cgroup)
    cpu = CgroupCpu()
    cpu.write_millicores(TARGET, 500)
    cpu.write_millicores(f"{TARGET}/child", 400)
    if is_v1(cgroup):
        with pytest.raises(PermanentError, match="child below it has 400 millicores"):
            CgroupCpu(period_us=10_000).write_millicores(TARGET, 300)
        assert cpu.read_millicores(TARGET) == 500.0
        assert (cgroup / "cpu.cfs_period_us").read_text() == "100000\n"
    else:
        cpu.write_millicores(TARGET, 300)
        assert cpu.read_millicores(f"{TARGET}/child") == 300.0


def test_a_burst_above_the_quota_is_named_as_the_reason_of_the_refusal(cgroup: Path):
    if not burst_file(cgroup).exists():
        pytest.skip("this kernel has no CPU burst (Linux 5.14)")
    cpu = CgroupCpu()
    cpu.write_millicores(TARGET, 500)
    burst_file(cgroup).write_text("40000")
    with pytest.raises(PermanentError, match="40000 µs, above the quota"):
        cpu.write_millicores(TARGET, 300)
    assert cpu.read_millicores(TARGET) == 500.0


def test_a_removed_group_is_a_temporary_error_and_is_limited_again_when_back(cgroup: Path):
    cpu = CgroupCpu()
    cpu.write_millicores(TARGET, 300)
    cgroup.rmdir()
    with pytest.raises(TemporaryError, match=NAME):
        cpu.write_millicores(TARGET, 300)
    cgroup.mkdir()
    cpu.write_millicores(TARGET, 300)
    assert cpu.read_millicores(TARGET) == 300.0


def test_a_group_that_can_be_written_is_found_so(cgroup: Path):
    assert CgroupCpu().why_not_writable(TARGET) == ""


def test_a_pods_container_is_found_and_limited_anew_when_it_was_made_anew(cgroup: Path):
    pod = cgroup
    for name in ("kubepods", "burstable", "pod7f3d1c0e-9a4b-4c55"):
        if not is_v1(pod):
            (pod / "cgroup.subtree_control").write_text("+cpu")
        pod = pod / name
        pod.mkdir()
    if not is_v1(pod):
        (pod / "cgroup.subtree_control").write_text("+cpu")
    cpu, target = CgroupCpu(), f"pod:{pod.name.removeprefix('pod')}/"
    for number in ("a" * 64, "b" * 64):
        container = pod / number
        container.mkdir()
        cpu.write_millicores(f"{target}{number[:12]}", 1500)
        file = container / ("cpu.cfs_quota_us" if is_v1(cgroup) else "cpu.max")
        assert file.read_text().split()[0] == "150000"
        container.rmdir()
        with pytest.raises(TemporaryError, match="the pod has no such container now"):
            cpu.read_millicores(f"{target}{number[:12]}")


# --- kill -9 -----------------------------------------------------------------------------------------------------

WRITE = """
    import os, signal, sys
    from microopt_actuator.drivers import cgroup, cgroup_files

    write, left = cgroup_files.write_control, int(sys.argv[1])

    def write_and_die(file, text):
        global left
        write(file, text)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    cgroup_files.write_control = write_and_die
    period_us, target, millicores = int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    cgroup.CgroupCpu(period_us=period_us, raise_parents=True).write_millicores(target, millicores)
"""


def killed_after(writes: int, period_us: int, target: str, millicores: float) -> bool:
    """Write in a process that is killed after so many writes to files; False: it had ended before."""
    words = [str(writes), str(period_us), target, str(millicores)]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(WRITE), *words], check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


@pytest.mark.parametrize(
    "before", [(None, 100_000), (1000, 100_000), (600, 50_000), (2000, 200_000), (100, 10_000)]
)
@pytest.mark.parametrize("after", [(600, 100_000), (1000, 50_000), (1500, 20_000), (50, 100_000)])
def test_a_process_killed_between_two_writes_has_limited_at_the_old_or_the_new_value(
    cgroup: Path, before: tuple[int | None, int], after: tuple[int, int]
):
    """Whatever the periods: v1 has a file each for quota and period."""
    (old, old_period_us), (new, period_us) = before, after
    cpu = CgroupCpu(period_us=period_us)
    for writes in (1, 2):
        unlimited(cgroup, old_period_us)
        if old is not None:
            CgroupCpu(period_us=old_period_us).write_millicores(TARGET, old)
        assert killed_after(writes, period_us, TARGET, new) or writes > 1 or old == new
        assert cpu.read_millicores(TARGET) in (old, new)
        cpu.write_millicores(TARGET, new)
        assert cpu.read_millicores(TARGET) == new
        assert cpu.plan_millicores(TARGET, new) == (new, [])


def test_what_takes_two_writes_is_refused_with_the_remedy_and_changes_nothing(cgroup: Path):
    """v2 has one file, and takes it."""
    CgroupCpu(period_us=10_000).write_millicores(TARGET, 4000)
    usual = CgroupCpu()
    if not is_v1(cgroup):
        usual.write_millicores(TARGET, 20)
        assert usual.read_millicores(TARGET) == 20.0
        return
    with pytest.raises(
        PermanentError, match=r"from 40000 µs in 10000 µs to 20 millicores takes two writes.*write -1"
    ):
        usual.write_millicores(TARGET, 20)
    assert usual.read_millicores(TARGET) == 4000.0
    (cgroup / "cpu.cfs_quota_us").write_text("-1")
    usual.write_millicores(TARGET, 20)
    assert usual.read_millicores(TARGET) == 20.0


def unlimited(cgroup: Path, period_us: int) -> None:
    """Take a cgroup's limit away, and leave it with a period."""
    if is_v1(cgroup):
        (cgroup / "cpu.cfs_quota_us").write_text("-1")
        (cgroup / "cpu.cfs_period_us").write_text(str(period_us))
    else:
        (cgroup / "cpu.max").write_text(f"max {period_us}")


def test_a_parent_that_a_killed_process_has_widened_stays_wide(cgroup: Path):
    child_of(cgroup)
    child = f"{TARGET}/child"
    CgroupCpu().write_millicores(TARGET, 500)
    CgroupCpu().write_millicores(child, 400)
    assert killed_after(1, 100_000, child, 800)
    cpu = CgroupCpu(raise_parents=True)
    assert (cpu.read_millicores(TARGET), cpu.read_millicores(child)) == (800.0, 400.0)
    cpu.write_millicores(child, 800)
    assert cpu.read_millicores(child) == 800.0
    cpu.write_millicores(child, 900)
    cpu.write_millicores(child, 100)
    assert (cpu.read_millicores(TARGET), cpu.read_millicores(child)) == (800.0, 100.0)
