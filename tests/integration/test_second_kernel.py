"""The cgroup driver on a kernel with cgroup v2, whichever kernel this machine runs: Debian's user-mode-linux.

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
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /mnt
mount -t cgroup2 cgroup /sys/fs/cgroup
echo +cpu > /sys/fs/cgroup/cgroup.subtree_control
export HOME=/mnt TMPDIR=/mnt PATH=/usr/sbin:/usr/bin:/sbin:/bin CI=true PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1
export PYTHONPATH={path}
cd {repository}
echo "kernel $(uname -r), cgroup $(stat -f -c %T /sys/fs/cgroup)"
{python} -m pytest -q -p no:cacheprovider -p no:randomly --basetemp=/mnt/pytest {tests}
echo "status $?"
echo o > /proc/sysrq-trigger
sleep 60
"""


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


@pytest.mark.timeout(300)
def test_cpu_is_limited_on_a_kernel_with_cgroup_v2(uml, tmp_path):
    init = tmp_path / "init"
    tests = REPOSITORY / "tests" / "integration" / "test_cgroup_kernel.py"
    init.write_text(
        INIT.format(
            path=shlex.quote(":".join(entry for entry in sys.path if entry)),
            repository=shlex.quote(str(REPOSITORY)),
            python=shlex.quote(sys.executable),
            tests=shlex.quote(str(tests)),
        )
    )
    init.chmod(0o755)
    done = subprocess.run(
        [uml, *BOOT, f"init={init}"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "cgroup cgroup2fs" in done.stdout, done.stdout + done.stderr
    assert "status 0" in done.stdout.splitlines(), done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 10
    assert "skipped" not in done.stdout
