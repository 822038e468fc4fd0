"""The live testbed's data plane: real packets, a real switch, a real CPU limit; and nothing of it left."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from microopt.errors import ConfigError
from microopt.testing import eventually
from microopt_testbed.live import lab, leavings
from microopt_testbed.live.dash import segments_bits
from microopt_testbed.live.lab import Lab, LabSettings, Measured

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ONE, TWO = "1-000001", "1-000002"
PERIOD_US = 100_000


def settings(**changes) -> LabSettings:
    fields = {"slices": (ONE, TWO), "segments_bits": segments_bits(Path("/nowhere")), "users": 3, "slot_s": 0.5}
    return LabSettings(**{**fields, **changes})


def set_queue_mbps(live: Lab, slice_: str, mbps: float) -> None:
    port = live.queue(slice_).partition("/")[0]
    rate = f"{round(mbps * 1e6)}"
    vsctl = ["ovs-vsctl", f"--db={live.ovsdb}", "--timeout=10"]
    qos = subprocess.run([*vsctl, "get", "port", port, "qos"], capture_output=True, check=True, text=True)
    found = subprocess.run([*vsctl, "get", "qos", qos.stdout.strip(), "queues:0"], capture_output=True, text=True)
    queue = found.stdout.strip()
    rates = [f"other-config:max-rate={rate}", f"other-config:min-rate={rate}"]
    subprocess.run([*vsctl, "set", "queue", queue, *rates], check=True)


def set_millicores(live: Lab, slice_: str, millicores: float) -> None:
    group = live.tops[0] / slice_
    quota_us = round(millicores * PERIOD_US / 1000)
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota_us))


async def settled(measured: AsyncIterator[Measured], slice_: str, users: int, slots: int = 8) -> list[Measured]:
    """Return slots of a slice after four in which it had its UEs."""
    found: list[Measured] = []
    async for one in measured:
        if (one.slice, one.users) == (slice_, users) and one.transport_mbps is not None:
            found.append(one)
        if len(found) == slots + 4:
            return found[4:]
    raise AssertionError("no more measurements")


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


async def test_bandwidth_and_cpu_both_bound_what_ues_get():
    async with lab.running(settings()) as live:
        measured = live.measurements()
        await live.set_users(ONE, 3)
        free = await settled(measured, ONE, 3, slots=4)
        free_mbps = mean(one.transport_mbps for one in free)
        assert free_mbps > 4.0

        set_queue_mbps(live, ONE, free_mbps / 3)
        shaped = await settled(measured, ONE, 3)
        shaped_mbps = mean(one.transport_mbps for one in shaped)
        assert 0.6 < shaped_mbps / (free_mbps / 3) < 1.15
        goodput_mbps = mean(3 * one.qos_mbps for one in shaped)
        assert 0.5 < goodput_mbps / shaped_mbps < 1.0  # GTP-U and the rest take their part

        set_queue_mbps(live, ONE, live.settings.link_mbps)
        set_millicores(live, ONE, 10.0)
        throttled = await settled(measured, ONE, 3)
        assert mean(one.transport_mbps for one in throttled) < 0.6 * free_mbps

        assert live.counts[ONE]["downlink"] > live.counts[ONE]["uplink"] > 0
        assert not {"unknown_tunnel", "not_gtpu", "unknown_ue", "not_pdcp"} & live.counts[ONE].keys()


async def test_a_slice_without_users_says_so():
    async with lab.running(settings()) as live:
        slots = await settled(live.measurements(), TWO, 0, slots=2)
        assert [one.qos_mbps for one in slots] == [None, None]
        assert mean(one.transport_mbps for one in slots) < 0.1


async def test_a_recording_is_replayed_at_its_rate():
    # 100 packets of 1,242 bytes a second: 1,200 of payload, 0.96 Mbit/s to each UE.
    recording = tuple((n / 100, 1242) for n in range(100))
    async with lab.running(settings(recordings={ONE: recording})) as live:
        await live.set_users(ONE, 2)
        slots = await settled(live.measurements(), ONE, 2)
        assert mean(one.qos_mbps for one in slots) == pytest.approx(0.96, rel=0.15)
        assert mean(one.transport_mbps for one in slots) == pytest.approx(2 * 1200 * 8e-4 * 1.08, rel=0.15)


def leftovers(folder: Path, owner: int) -> list[str]:
    """Return what is left of a testbed whose files are in `folder`: files, cgroups and processes.

    Links and namespaces are those of its processes, and of nobody else.
    """
    files = [str(path) for path in folder.glob("microopt-live-*")]
    groups = [str(path) for place in leavings.hierarchies() for path in place.glob(f"microopt-live-{owner}-*")]
    processes = subprocess.run(["pgrep", "-f", f"{folder}/microopt-live"], capture_output=True, text=True)
    return files + groups + processes.stdout.split()


HELD = """
import asyncio
from pathlib import Path
from microopt_testbed.live import lab
from microopt_testbed.live.dash import segments_bits

async def main():
    async with lab.running(lab.LabSettings(slices=("1-000001",), segments_bits=segments_bits(Path("/nowhere")))):
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_nothing_is_left_however_it_ends(tmp_path, how):
    script = tmp_path / "held.py"
    script.write_text(textwrap.dedent(HELD))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=asyncio.subprocess.PIPE, env=environment, start_new_session=True
    )
    assert await process.stdout.readline() == b"ready\n"
    assert len(leftovers(tmp_path, process.pid)) > 5
    process.send_signal(how)
    await process.wait()
    await eventually(lambda: not leftovers(tmp_path, process.pid), within_s=15)


async def test_what_nobody_could_remove_is_removed_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    folder, tops = leavings.make(["1-000001"], gone.pid)
    assert folder.exists()
    assert all(top.exists() for top in tops)
    leavings.remove_stale()
    assert not folder.exists()
    assert not any(top.exists() for top in tops)


@pytest.mark.parametrize(
    ("command", "named"), [("live.gnb ", f"gnb of slice {ONE}"), ("ovs-vswitchd unix:", "ovs-vswitchd")]
)
async def test_a_process_that_ends_is_named(command, named):
    async with lab.running(settings(slices=(ONE,))) as live:
        await asyncio.to_thread(subprocess.run, ["pkill", "-KILL", "-f", f"{command}{live.folder}"], check=True)
        with pytest.raises(ConfigError, match=named):
            async for _ in live.measurements():
                pass


def test_the_data_plane_does_not_run_outside_its_namespaces(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "microopt_testbed.live.plane", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "process 1" in done.stderr


@pytest.mark.parametrize("joined", [True, False])
def test_hierarchies_that_are_mounted_together_are_one(tmp_path, joined):
    for name in ("cpu,cpuacct",) if joined else ("cpu", "cpuacct"):
        (tmp_path / name).mkdir()
        for file in ("cpu.cfs_quota_us", "cpuacct.usage"):
            if joined or file.startswith(f"{name}."):
                (tmp_path / name / file).touch()
    if joined:
        for name in ("cpu", "cpuacct"):
            (tmp_path / name).symlink_to("cpu,cpuacct")
    found = leavings.hierarchies(tmp_path)
    assert [path.name for path in found] == (["cpu,cpuacct"] if joined else ["cpu", "cpuacct"])


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="slices: 1 to 50"):
        settings(slices=())
    with pytest.raises(ValueError, match="users: 1 to 100"):
        settings(users=0)
