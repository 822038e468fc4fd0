"""Where a target's cgroup is: the hierarchy that limits CPU, v1 or v2, and the path within it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.cgroup_files import CpuGroup, refusal
from microopt_actuator.drivers.cgroup_pods import POD, Pods

PID = "pid:"
NO_PID = 1 << 22
"""The kernel's PID_MAX_LIMIT, below which all are."""
_V2_MARK = "cgroup.controllers"
_V2_MOUNT = "unified"
_V1_MOUNTS = ("cpu", "cpu,cpuacct")
_HOW = "write an absolute path within the hierarchy, such as /kubepods/burstable/pod1, pod:UID or pid:1234"


@dataclass(frozen=True, slots=True)
class ProcessPaths:
    """The cgroup of a process in the hierarchy with v1's cpu controller and in v2; `None` is no such line."""

    v1: str | None
    v2: str | None


@dataclass(frozen=True, slots=True)
class CgroupTree:
    """The cgroup file systems below `root`, and the processes below `proc`."""

    root: Path
    proc: Path
    pods: Pods = field(default_factory=Pods, compare=False, repr=False)

    def find(self, target: str) -> CpuGroup:
        """Return the cgroup that `target` names now, in the hierarchy that limits its CPU.

        A hybrid host has both hierarchies and the cpu controller in one of them only: a directory of v2
        counts if it has cpu.max.

        Raises:
            TemporaryError: there is no such cgroup or process now.
            PermanentError: the target is no cgroup below `root` that can be limited.
        """
        paths = self._paths(target)
        try:
            for group in self._candidates(target, paths):
                if group.limit_file.exists():
                    return group
            raise self._not_found(target, paths)
        except OSError as error:
            raise refusal(error, self.root, f"looking for {target!r}") from error

    def _paths(self, target: str) -> ProcessPaths:
        if target.startswith(PID):
            return self._paths_of_process(target)
        if target.startswith(POD):
            return self._paths_of_pod(target)
        if not target.startswith("/"):
            raise PermanentError(f"cgroup target {target!r}: {_HOW}")
        if target.startswith(f"{self.root}/"):
            raise PermanentError(f"cgroup target {target!r} repeats the mount point {self.root}: {_HOW}")
        if not path_parts(target, target):
            raise PermanentError(f"cgroup target {target!r} is the root, which has no CPU limit; {_HOW}")
        return ProcessPaths(target, target)

    def _paths_of_process(self, target: str) -> ProcessPaths:
        pid = target.removeprefix(PID)
        if not (pid.isascii() and pid.isdecimal() and int(pid) > 0):
            raise PermanentError(f"cgroup target {target!r}: a process id is a whole number above 0; {_HOW}")
        file = self.proc / str(int(pid)) / "cgroup"
        try:
            paths = parse_proc_cgroup(file.read_text())
        except OSError as error:
            raise refusal(error, file, f"finding the cgroup of {target}") from error
        if paths == ProcessPaths(None, None):
            raise PermanentError(f"{file} names no cpu controller: this kernel cannot limit CPU by cgroup")
        return paths

    def _paths_of_pod(self, target: str) -> ProcessPaths:
        mounts = {version: self._mounts(version) for version in (1, 2)}
        if not any(mounts.values()):
            return ProcessPaths(None, None)
        try:
            found = self.pods.paths(target, [*mounts[1], *mounts[2]])
        except OSError as error:
            raise refusal(error, self.root, f"looking for {target!r}") from error
        first_of_v2 = len(mounts[1])
        v1, v2 = found[:first_of_v2], found[first_of_v2:]
        return ProcessPaths(next(filter(None, v1), None), next(filter(None, v2), None))

    def _candidates(self, target: str, paths: ProcessPaths) -> Iterator[CpuGroup]:
        for version, path in ((2, paths.v2), (1, paths.v1)):
            parts = path_parts(target, path) if path is not None else ()
            if parts:
                for mount in self._mounts(version):
                    yield CpuGroup(self._inside(target, mount, parts), mount, version)

    def _mounts(self, version: int) -> list[Path]:
        root = _real(self.root)
        if (root / _V2_MARK).exists():  # then "cpu" or "unified" in it are plain cgroups
            return [root] if version == 2 else []
        names = (_V2_MOUNT,) if version == 2 else _V1_MOUNTS
        # Resolved, because "cpu" is a link to "cpu,cpuacct" on many hosts.
        mounts = dict.fromkeys(_real(root / name) for name in names)
        inside = [mount for mount in mounts if mount.is_dir() and mount.is_relative_to(root)]
        return [mount for mount in inside if version == 1 or (mount / _V2_MARK).exists()]

    def _inside(self, target: str, mount: Path, parts: tuple[str, ...]) -> Path:
        directory = _real(mount.joinpath(*parts))
        if not directory.is_relative_to(mount) or directory == mount:
            raise PermanentError(
                f"cgroup target {target!r} leaves {mount} through a symbolic link to {directory}; "
                "name the cgroup itself"
            )
        return directory

    def _not_found(self, target: str, paths: ProcessPaths) -> PermanentError | TemporaryError:
        groups = list(self._candidates(target, paths))
        if not (self._mounts(1) or self._mounts(2)):
            return PermanentError(
                f"cgroup root {self.root} has no hierarchy with the cpu controller (cgroup.controllers, "
                f"{' or '.join(_V1_MOUNTS)}); mount the host's /sys/fs/cgroup there"
            )
        if self._sits_in_root(paths):
            return PermanentError(
                f"cgroup target {target!r} is in the root cgroup, which has no CPU limit; start the process "
                "in a cgroup of its own, or give the actuator the host's view (host pid and cgroup namespace)"
            )
        # Where v1 has the controller, an empty v2 twin of a missing cgroup says nothing.
        looked_in = [group for group in groups if group.version == 1] or groups
        present = [group for group in looked_in if group.directory.is_dir()]
        if present:
            return _without_limit_file(present[0])
        missing = ", ".join(str(group.directory) for group in groups)
        return TemporaryError(
            f"cgroup target {target!r} is not there (looked for {missing}); it may come back with its pod"
        )

    def _sits_in_root(self, paths: ProcessPaths) -> bool:
        path = paths.v1 if self._mounts(1) and paths.v1 is not None else paths.v2
        return path is not None and path.strip("/") == ""


def path_parts(target: str, path: str) -> tuple[str, ...]:
    """Return the names along `path`; none for the root.

    Raises:
        PermanentError: the path leaves the hierarchy, or no file system can hold it; the text names `target`.
    """
    if "\0" in path:
        raise PermanentError(f"cgroup target {target!r} contains a NUL; {_HOW}")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." not in parts:
        return parts
    if target.startswith(PID):
        raise PermanentError(
            f"cgroup target {target!r} is outside this agent's cgroup namespace ({path}); "
            "run the actuator in the host's cgroup namespace"
        )
    raise PermanentError(f"cgroup target {target!r} may not contain '..'; {_HOW}")


def parse_proc_cgroup(text: str) -> ProcessPaths:
    """Return the paths of the lines of /proc/PID/cgroup that matter for CPU (cgroups(7)).

    Lines read `id:controllers:path`; v2 is `0::path`, and a v1 hierarchy may carry several controllers.

    Raises:
        TemporaryError: the process has outlived its cgroup.
    """
    v1 = v2 = None
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpu" in controllers.split(","):
            v1 = path
        elif number == "0" and not controllers:
            v2 = path
    if any(path is not None and path.endswith(" (deleted)") for path in (v1, v2)):
        raise TemporaryError(f"the cgroup of this process was removed ({v1 or v2}); wait for its successor")
    return ProcessPaths(v1, v2)


def _without_limit_file(group: CpuGroup) -> PermanentError:
    if group.version == 2:
        remedy = f"enable the controller: echo +cpu > {group.directory.parent}/cgroup.subtree_control"
    else:
        remedy = "use a kernel with CONFIG_CFS_BANDWIDTH"
    return PermanentError(f"cgroup {group.directory} has no {group.limit_file.name}; {remedy}")


def _real(path: Path) -> Path:
    """Return `path` without links; unlike Path.resolve it also takes a loop, which then is not found."""
    return Path(os.path.realpath(path))
