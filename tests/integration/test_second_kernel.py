"""Drivers on a kernel with cgroup v2 and under systemd, whatever this machine runs: Debian's user-mode-linux.

It boots on this machine's own files, read only, in a few seconds; what runs in it has a file system of its own.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[2]
UML = "linux.uml"
BOOT = (
    "root=/dev/root",
    "rootfstype=hostfs",
    "rootflags=/",
    "ro",
    "mem=1024M",
    "con=null",
    "con0=fd:0,fd:1",
    "quiet",
)
MOUNTS = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o size=64G tmp /mnt
mount -t cgroup2 cgroup /sys/fs/cgroup
"""
PYTEST = """#!/bin/sh
export HOME=/mnt TMPDIR=/mnt PATH=/usr/sbin:/usr/bin:/sbin:/bin CI=true PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1
export PYTHONPATH={path} PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
cd {repository}
echo "kernel $(uname -r), cgroup $(stat -f -c %T /sys/fs/cgroup), process 1 $(cat /proc/1/comm)"
{python} -m pytest -q -p pytest_asyncio.plugin -p pytest_timeout -p no:cacheprovider --basetemp=/mnt/pytest {tests}
echo "status $?"
echo o > /proc/sysrq-trigger
sleep 60
"""

MODULES = "/usr/lib/uml/modules"
SYSTEMD = "/lib/systemd/systemd"
UNITS = {
    "test.target": "[Unit]\nRequires=dbus.socket dbus.service gnb.service check.service\nWants=mentioned.service",
    "dbus.socket": "[Socket]\nListenStream=/run/dbus/system_bus_socket",
    "dbus.service": "[Service]\nExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile",
    "gnb.service": "[Service]\nExecStart=/bin/sleep 1000",
    "check.service": "[Unit]\nAfter=dbus.service gnb.service\n[Service]\nExecStart={run}\nStandardOutput=tty\n"
    "StandardError=tty\nTTYPath=/dev/console",
}
"""What such a host runs; the names of D-Bus's are those by which systemd knows it."""


@pytest.fixture(scope="module")
def uml():
    """Return the kernel, which is a program."""
    found = shutil.which(UML)
    if found is None or os.geteuid() != 0:
        reason = "needs root, and Debian's package user-mode-linux"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def boot(uml: str, folder: Path, init: Path) -> str:
    """Boot until it ends itself, and return what it said on its console."""
    done = subprocess.run(
        [uml, *BOOT, f"init={init}"],
        cwd=folder,
        env={"HOME": str(folder), "TMPDIR": str(folder), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.stdout + done.stderr


def script(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


def pytest_script(file: Path, tests: str) -> Path:
    """Write the script that runs a file of tests and ends the machine."""
    text = PYTEST.format(
        path=shlex.quote(":".join(entry for entry in sys.path if entry)),
        repository=shlex.quote(str(REPOSITORY)),
        python=shlex.quote(sys.executable),
        tests=shlex.quote(str(REPOSITORY / "tests" / "integration" / tests)),
    )
    return script(file, text)


def assert_passed(said: str, at_least: int) -> None:
    assert "status 0" in said.splitlines(), said
    assert int(re.search(r"(\d+) passed", said)[1]) >= at_least
    assert "skipped" not in said


@pytest.mark.timeout(300)
def test_cpu_is_limited_on_a_kernel_with_cgroup_v2(uml, tmp_path):
    run = pytest_script(tmp_path / "run", "test_cgroup_kernel.py")
    more = "echo +cpu > /sys/fs/cgroup/cgroup.subtree_control"
    said = boot(uml, tmp_path, script(tmp_path / "init", f"{MOUNTS}{more}\nexec {shlex.quote(str(run))}\n"))
    assert "cgroup cgroup2fs" in said, said
    assert_passed(said, at_least=10)


@pytest.mark.timeout(300)
def test_cpu_is_limited_by_systemd(uml, tmp_path):
    assert Path(SYSTEMD).exists(), f"{SYSTEMD} is missing: scripts/setup.sh installs it"
    run = pytest_script(tmp_path / "run", "on_systemd.py")
    units = tmp_path / "units"
    units.mkdir()
    for name, text in UNITS.items():
        unit = f"[Unit]\nDefaultDependencies=no\n{text.format(run=run)}\n"
        (units / name).write_text(unit)
    (units / "masked.service").symlink_to("/dev/null")
    more = "\n".join(
        [
            "mount -t tmpfs run /run",
            f"export SYSTEMD_UNIT_PATH={shlex.quote(str(units))}:",  # the colon adds the usual folders
            f"exec {SYSTEMD} --unit=test.target --log-target=console --log-level=warning --show-status=0",
        ]
    )
    said = boot(uml, tmp_path, script(tmp_path / "init", f"{MOUNTS}{more}\n"))
    assert "process 1 systemd" in said, said
    assert_passed(said, at_least=10)


@pytest.mark.timeout(300)
def test_bandwidth_is_limited_by_queues_of_open_vswitch_in_the_kernel(uml, tmp_path):
    run = pytest_script(tmp_path / "run", "on_ovs_kernel.py")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "modules").symlink_to(MODULES)
    names = ("openvswitch", "sch_htb", "veth", "vxlan", "vport-vxlan")
    modules = (f"modprobe -d {shlex.quote(str(tmp_path))} {name}" for name in names)
    more = "\n".join(["mount -t tmpfs run /run", "ip link set lo up", *modules, f"exec {shlex.quote(str(run))}"])
    said = boot(uml, tmp_path, script(tmp_path / "init", f"{MOUNTS}{more}\n"))
    assert_passed(said, at_least=2)
