"""Where the kubelet and its container runtimes put the cgroups of a pod: whichever driver, QoS class and nesting.

systemd's driver makes `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice`, with `_` for
each `-` of the uid, and in it `cri-containerd-<id>.scope`; cgroupfs makes `kubepods/burstable/pod<uid>/<id>`.
Guaranteed pods have no level for their class. kind, and a kubelet with --cgroup-root, put all of it deeper.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from microopt.errors import PermanentError, TemporaryError

POD: Final = "pod:"
_HOW: Final = (
    "write pod:<uid>, as metadata.uid has it, for the whole pod, or pod:<uid>/<beginning of a container's id> for "
    "one container"
)
_UID = re.compile(r"[0-9A-Za-z](?:[-0-9A-Za-z]{0,61}[0-9A-Za-z])?")
_WANTED = re.compile(r"(?:[a-z0-9-]+://)?([0-9A-Za-z][-.0-9A-Za-z]{0,127})")
_KUBEPODS = re.compile(r"(?:.+-)?kubepods(?:\.slice)?")
_CLASS = re.compile(r"(?:.+-kubepods-|kubepods-)(?:burstable|besteffort)\.slice|burstable|besteffort")
_CONTAINER = re.compile(r"(?!crio-conmon-)(?:[a-z][a-z-]*-)?([0-9a-f]{12,64})(?:\.scope)?")
_MAX_DEPTH: Final = 8
"""Of the cgroup that holds all pods: kind in a rootless container is at 7."""


@dataclass(frozen=True, slots=True)
class PodTarget:
    """A pod by its uid, or one of its containers by the beginning of its id or of its cgroup's name."""

    uid: str
    container: str = ""


class Pods:
    """Finds the cgroups of pods; where a pod's is does not change, which containers are in it does."""

    def __init__(self) -> None:
        self._found: dict[tuple[Path, str], Path] = {}

    def paths(self, target: str, mounts: list[Path]) -> list[str | None]:
        """Return where `target` is now in each of the hierarchies at `mounts`, as a path within it.

        Raises:
            TemporaryError: it is in none of them now.
            PermanentError: the target names no pod, or several containers.
            OSError: a hierarchy cannot be read.
        """
        wanted = parse_pod(target)
        pods = {mount: pod for mount in mounts if (pod := self._pod(target, wanted, mount)) is not None}
        if not pods:
            raise TemporaryError(
                f"cgroup target {target!r}: this node has no pod of this uid now; it may come back"
            )
        if not wanted.container:
            return [_within(mount, pods.get(mount)) for mount in mounts]
        found = {mount: _container(target, wanted, pod) for mount, pod in pods.items()}
        if not any(found.values()):
            there = ", ".join(dict.fromkeys(name for pod in pods.values() for name in _names(pod))) or "none"
            raise TemporaryError(
                f"cgroup target {target!r}: the pod has no such container now, but {there}; a container that is "
                "made anew has another id"
            )
        return [_within(mount, found.get(mount)) for mount in mounts]

    def _pod(self, target: str, wanted: PodTarget, mount: Path) -> Path | None:
        known = self._found.get((mount, wanted.uid))
        if known is not None and known.is_dir():
            return known
        found = list(_pods(mount, wanted.uid))
        if len(found) > 1:
            raise PermanentError(
                f"cgroup target {target!r} is {len(found)} cgroups ({', '.join(map(str, found))}); name one of "
                "them by its path"
            )
        if found:
            self._found[mount, wanted.uid] = found[0]
        return found[0] if found else None


def parse_pod(target: str) -> PodTarget:
    """Return what `target` names.

    Raises:
        PermanentError: it is not in the notation.
    """
    uid, slash, rest = target.removeprefix(POD).partition("/")
    if not _UID.fullmatch(uid):
        raise PermanentError(f"cgroup target {target!r}: {uid!r} is no pod's uid; {_HOW}")
    container = _WANTED.fullmatch(rest)
    if slash and not container:
        raise PermanentError(f"cgroup target {target!r}: {rest!r} is no container's id; {_HOW}")
    return PodTarget(uid, container[1] if container else "")


def _pods(mount: Path, uid: str) -> Iterator[Path]:
    """Yield the cgroups of the pod `uid`."""
    by_systemd = re.compile(
        rf"(?:.+-)?kubepods(?:-burstable|-besteffort)?-pod{re.escape(uid.replace('-', '_'))}\.slice"
    )
    for level in _levels(mount):
        for name in _folders(level):
            if name == f"pod{uid}" or by_systemd.fullmatch(name):
                yield level / name


def _levels(mount: Path) -> Iterator[Path]:
    """Yield the cgroups that hold pods: one for all, and one for each class that has a level."""
    level = [mount]
    for _ in range(_MAX_DEPTH):
        below = []
        for directory in level:
            for name in _folders(directory):
                if not _KUBEPODS.fullmatch(name):
                    below.append(directory / name)
                    continue
                yield directory / name
                yield from (directory / name / one for one in _folders(directory / name) if _CLASS.fullmatch(one))
        level = below


def _container(target: str, wanted: PodTarget, pod: Path) -> Path | None:
    """Return the cgroup of the one container that is wanted."""
    found = [name for name in _names(pod) if _is_meant(wanted.container, name)]
    if len(found) > 1:
        raise PermanentError(
            f"cgroup target {target!r} is {len(found)} containers ({', '.join(found)}); write more of an id"
        )
    return pod / found[0] if found else None


def _is_meant(container: str, name: str) -> bool:
    found = _CONTAINER.fullmatch(name)
    return name.startswith(container) or (found is not None and found[1].startswith(container))


def _names(pod: Path) -> list[str]:
    """Return the names of the cgroups of a pod's containers, one of which is its sandbox."""
    return [name for name in _folders(pod) if _CONTAINER.fullmatch(name)]


def _folders(directory: Path) -> list[str]:
    """Return what is in a directory, which may vanish meanwhile."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _within(mount: Path, directory: Path | None) -> str | None:
    return None if directory is None else f"/{directory.relative_to(mount)}"
