"""What the live testbed has outside its namespaces, cgroups and a folder, and how it is made and removed."""

import errno
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
_REMEDIES: Final = {
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root",
    errno.EROFS: "mount the cgroup hierarchy read-write",
    errno.EBUSY: "processes stand in the cgroup above: in a container, start it with --cgroupns=host",
}
_ELSE: Final = "cgroups cannot be made here"
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
        places = (path.resolve() for path in (root / name, root / "cpu,cpuacct") if (path / file).exists())
        found += [path for path in places if path not in found][:1]
    if not found:
        raise ConfigError(f"{root}: no cgroup hierarchy with the cpu controller; mount one")
    return found


def make(slices: Iterable[str], owner: int) -> tuple[Path, list[Path]]:
    """Make a folder, and for each slice a cgroup in each hierarchy; return the folder and the tops of the cgroups.

    Raises:
        ConfigError: this process may not make cgroups.
    """
    remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner}-"))
    tops = [hierarchy / folder.name for hierarchy in hierarchies()]
    at = folder
    try:
        for top in tops:
            for at in (top, *(top / name for name in slices)):
                at.mkdir()
                _let_limit(at.parent)
                _prefer(at)
    except OSError as error:
        remove(folder, tops)
        raise ConfigError(f"{at}: {error.strerror}; {_REMEDIES.get(error.errno or 0, _ELSE)}") from error
    return folder, tops


def _let_limit(group: Path) -> None:
    """Give the groups below a CPU controller, which v2 does not by itself."""
    control = group / "cgroup.subtree_control"
    if "cpu" in _words(group / "cgroup.controllers") and "cpu" not in _words(control):
        control.write_text("+cpu", encoding="ascii")


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
