"""Cgroups of a test's own in the hierarchy, v1 or v2, that limits CPU on this machine."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path("/sys/fs/cgroup")


def unusable(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"this machine must be able to run the cgroup tests: {reason}")
    pytest.skip(reason)


def hierarchy() -> Path:
    if os.geteuid() != 0:
        unusable("not root: cannot make a cgroup")
    if (ROOT / "cgroup.controllers").exists():
        if "cpu" not in (ROOT / "cgroup.subtree_control").read_text().split():
            unusable(f"{ROOT}/cgroup.subtree_control does not have cpu")
        return ROOT
    for name in ("cpu", "cpu,cpuacct"):
        if (ROOT / name / "cpu.cfs_quota_us").exists():
            return ROOT / name
    unusable(f"no hierarchy with the cpu controller under {ROOT}")


class Cgroup:
    """A cgroup, limited as somebody other than the actuator would."""

    def __init__(self, name: str) -> None:
        self.target = f"/{name}"
        self.directory = hierarchy() / name
        self.make()

    def make(self) -> None:
        try:
            self.directory.mkdir()
        except OSError as error:
            unusable(f"cannot make {self.directory}: {error.strerror}")

    def remove(self) -> None:
        if self.directory.exists():
            self.directory.rmdir()

    @property
    def is_v1(self) -> bool:
        return self.limit_file.name == "cpu.cfs_quota_us"

    @property
    def limit_file(self) -> Path:
        v2 = self.directory / "cpu.max"
        return v2 if v2.exists() else self.directory / "cpu.cfs_quota_us"

    def millicores(self) -> float | None:
        """Return the limit in force; None is none."""
        words = self.limit_file.read_text().split()
        if self.is_v1:
            words.append((self.directory / "cpu.cfs_period_us").read_text())
        return None if words[0] in ("max", "-1") else int(words[0]) * 1000 / int(words[1])

    def limit(self, millicores: float) -> None:
        """Write another limit, with the period that it has."""
        self.limit_file.write_text(str(round(millicores * 100)))
