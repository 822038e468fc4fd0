"""What the live testbed has outside its namespaces, cgroups and a folder, and how it is made and removed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from microopt.errors import ConfigError

PREFIX: Final = "microopt-live-"
EMPTY_WITHIN_S: Final = 2.0
"""The kernel takes a moment to end what it was told to."""
ROOT: Final = Path("/sys/fs/cgroup")


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Return where cgroups are made that limit CPU, and those that count it where that is another hierarchy.

    Raises:
        ConfigError: there is no such hierarchy.
    """
    if "cpu" in _words(root / "cgroup.controllers"):
        return [root]
    found: list[Path] = []
    for name, file in (("cpu", "cpu.cfs_quota_us"), ("cpuacct", "cpuacct.usage")):
        places = [path for path in (root / name, root / "cpu,cpuacct") if (path / file).exists()]
        found += [path for path in places[:1] if path.resolve() not in found]
    if not found:
        raise ConfigError(f"{root}: no cgroup hierarchy with the cpu controller; mount one")
    return [path.resolve() for path in found]


def make(slices: Iterable[str], owner: int) -> tuple[Path, list[Path]]:
    """Make a folder, and for each slice a cgroup in each hierarchy; return the folder and the tops of the cgroups.

    Raises:
        ConfigError: this process may not make cgroups.
    """
    remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner}-"))
    tops = [hierarchy / f"{PREFIX}{owner}" for hierarchy in hierarchies()]
    try:
        for top in tops:
            top.mkdir()
            for parent in (top.parent, top):
                if (parent / "cgroup.subtree_control").exists() and "cpu" in _words(parent / "cgroup.controllers"):
                    (parent / "cgroup.subtree_control").write_text("+cpu")
            for group in (top, *(top / name for name in slices)):
                group.mkdir(exist_ok=True)
                _prefer(group)
    except OSError as error:
        remove(folder, tops)
        raise ConfigError(f"{error.filename}: {error.strerror}; the live testbed needs root") from error
    return folder, tops


def _prefer(group: Path) -> None:
    """Let a gNB run before other work, as those with real-time threads do; its quota stays its limit."""
    for file, weight in (("cpu.shares", 10 * 1024), ("cpu.weight", 1000)):
        if (group / file).exists():
            (group / file).write_text(str(weight), encoding="ascii")


def remove(folder: Path, tops: Iterable[Path]) -> None:
    """Remove what `make` made; a cgroup whose processes do not end stays, for the next start."""
    for top in tops:
        give_up_s = time.monotonic() + EMPTY_WITHIN_S
        while top.exists() and time.monotonic() < give_up_s:
            for group in (*(path for path in top.glob("*") if path.is_dir()), top):
                with suppress(OSError):
                    group.rmdir()
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def remove_stale() -> None:
    """Remove what was left by owners that are gone, together with all who could have removed it."""
    for path in (*(top for place in hierarchies() for top in place.glob(f"{PREFIX}*")), *_folders()):
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            if path.is_relative_to(ROOT):
                remove(Path(os.devnull), [path])
            else:
                remove(path, [])


def _folders() -> Iterator[Path]:
    return Path(tempfile.gettempdir()).glob(f"{PREFIX}*")


def _words(file: Path) -> list[str]:
    return file.read_text(encoding="ascii").split() if file.exists() else []
