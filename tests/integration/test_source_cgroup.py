"""The cgroup source: the kernel's own cgroup v2 hierarchy where there is one, and files like its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from microopt.testing import eventually
from microopt_collector.sources.cgroup import CgroupSource, CgroupSourceSettings

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))  # v2 alone, or beside v1
V1 = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpuacct"))


def source(root: Path, *groups: tuple[str, str, str]) -> CgroupSource:
    table = {
        "kind": "cgroup",
        "root": str(root),
        "period_s": 0.05,
        "groups": [dict(zip(("slice", "resource", "path"), group, strict=True)) for group in groups],
    }
    return CgroupSource(msgspec.convert(table, CgroupSourceSettings))


@pytest.fixture
def cgroup() -> Iterator[Path]:
    root = next((root for root in ROOTS if (root / "cgroup.controllers").exists()), None)
    if root is None or os.geteuid() != 0:
        reason = "no cgroup v2 hierarchy that this user may change"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = root / f"microopt-source-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.rmdir()


@pytest.fixture
def busy(cgroup: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        (cgroup / "cgroup.procs").write_text(str(process.pid))
        yield
        process.kill()
    give_up = time.monotonic() + 60
    while (cgroup / "cgroup.procs").read_text():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.root
@pytest.mark.usefixtures("busy")
async def test_the_kernel_tells_what_a_busy_process_uses(cgroup, measuring):
    found = source(cgroup.parent, ("1-000001", "gnb_cpu", cgroup.name))
    async with measuring(found) as heard:
        await eventually(lambda: any(m.usage["gnb_cpu"] > 100 for m in heard.measurements))
    assert heard.rejected == []
    assert all(0 <= m.usage["gnb_cpu"] < 2000 for m in heard.measurements)
    assert all(0 <= m.pressure.get("gnb_cpu", 0.0) <= 1 for m in heard.measurements)


@pytest.mark.root
async def test_a_kernel_that_limits_cpu_by_v1_tells_it_too(measuring):
    folders = [root / f"microopt-v1-{os.getpid()}" for root in V1 if root.exists()]
    if not folders:
        assert any("cpu" in (root / "cgroup.controllers").read_text().split() for root in ROOTS if root.exists())
        return  # this kernel has v2's controller, which the test above has tried
    for folder in folders:
        folder.mkdir()
    try:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
        for folder in folders:
            (folder / "cgroup.procs").write_text(str(process.pid))
        (folders[0] / "cpu.cfs_quota_us").write_text("20000")
        try:
            async with measuring(source(ROOTS[0], ("1-000001", "gnb_cpu", folders[0].name))) as heard:
                await eventually(lambda: any(m.throttled.get("gnb_cpu", 0) > 0.5 for m in heard.measurements))
        finally:
            process.kill()
            await process.wait()
        assert heard.rejected == []
        used = [m.usage["gnb_cpu"] for m in heard.measurements]
        assert max(used) > 50.0  # of 200, in periods that are shorter than the quota's
        assert sum(used) / len(used) < 700.0
    finally:
        for folder in folders:
            await eventually(lambda folder=folder: not (folder / "cgroup.procs").read_text())
            folder.rmdir()


def write(folder: Path, usage_us: int, periods: int = 0, throttled: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    text = f"usage_usec {usage_us}\nnr_periods {periods}\nnr_throttled {throttled}\n"
    (folder / "cpu.stat.new").write_text(text)
    (folder / "cpu.stat.new").rename(folder / "cpu.stat")  # never half written


async def test_groups_of_one_slice_make_one_measurement(tmp_path, measuring):
    for name in ("gnb", "upf", "other"):
        write(tmp_path / name, 0)
    groups = [("1-000001", "gnb_cpu", "gnb"), ("1-000001", "upf_cpu", "/upf/"), ("2", "gnb_cpu", "other")]
    async with measuring(source(tmp_path, *groups)) as heard:
        await eventually(lambda: len(heard.measurements) >= 2)
    assert [(m.slice, set(m.usage)) for m in heard.measurements[:2]] == [
        ("1-000001", {"gnb_cpu", "upf_cpu"}),
        ("2", {"gnb_cpu"}),
    ]


async def test_a_cgroup_that_vanishes_is_said_and_taken_again(tmp_path, measuring):
    gone, stays = tmp_path / "gone", tmp_path / "stays"
    write(gone, 1_000_000)
    write(stays, 0)
    found = source(tmp_path, ("1-000001", "gnb_cpu", "gone"), ("2", "gnb_cpu", "stays"))
    async with measuring(found) as heard:
        await eventually(lambda: heard.measurements)
        (gone / "cpu.stat").unlink()
        await eventually(lambda: heard.rejected)
        heard.measurements.clear()
        await eventually(lambda: heard.measurements)
        assert {m.slice for m in heard.measurements} == {"2"}
        assert heard.states[-1] is False
        write(gone, 5)
        await eventually(lambda: any(m.slice == "1-000001" for m in heard.measurements))
    assert heard.reasons == {"error"}
    assert "there is no such cgroup" in heard.rejected[0][1]


async def test_a_counter_that_goes_back_gives_no_rate(tmp_path, measuring):
    write(tmp_path / "gnb", 1_000_000)
    async with measuring(source(tmp_path, ("2", "gnb_cpu", "gnb"))) as heard:
        await eventually(lambda: heard.measurements)
        write(tmp_path / "gnb", 5)
        await eventually(lambda: heard.rejected)
        count = len(heard.measurements)
        await eventually(lambda: len(heard.measurements) > count)
    assert heard.reasons == {"reset"}
    assert all(m.usage["gnb_cpu"] == 0.0 for m in heard.measurements)


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([], "groups"),
        ([("2", "gnb_cpu", "a"), ("2", "gnb_cpu", "b")], "2 gnb_cpu given twice"),
        ([("2", "gnb_cpu", "../etc")], "leads out"),
        ([("x", "gnb_cpu", "a")], "not an S-NSSAI"),
        ([("2", "gNB CPU", "a")], "resource"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, groups, text):
    with pytest.raises(msgspec.ValidationError, match=text):
        source(tmp_path, *groups)
