"""CPU quotas of cgroups that are there for the benchmark alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actuate.place import Place, cpu_hierarchy

PERIOD_US = 100_000


@contextmanager
def cgroup_place(slices: list[str]) -> Iterator[Place]:
    """Make a cgroup for each slice, and one for the bare write; remove them at the end."""
    top = cpu_hierarchy() / f"microopt-bench-{os.getpid()}"
    folders = [top, top / "bare", *(top / name for name in slices)]
    try:
        for folder in folders:
            folder.mkdir()
        if (top / "cgroup.controllers").exists():
            (top / "cgroup.subtree_control").write_text("+cpu")
        yield Place("cgroup", f"/{top.name}/{{slice}}", "millicores", (1000.0, 1500.0), _Bare(top / "bare"))
    finally:
        for folder in reversed(folders):
            if folder.exists():
                folder.rmdir()


class _Bare:
    def __init__(self, folder: Path) -> None:
        self._v1 = folder / "cpu.cfs_quota_us"
        self._v2 = folder / "cpu.max"

    async def __call__(self, value: float) -> None:
        quota_us = round(value * PERIOD_US / 1000)
        if self._v1.exists():
            self._v1.write_text(str(quota_us))
        else:
            self._v2.write_text(f"{quota_us} {PERIOD_US}")


def quota_file(place: Place, slice_: str) -> Path:
    """Return the file that holds a slice's quota."""
    folder = cpu_hierarchy() / place.target.strip("/").replace("{slice}", slice_)
    return folder / ("cpu.cfs_quota_us" if (folder / "cpu.cfs_quota_us").exists() else "cpu.max")
