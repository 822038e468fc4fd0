"""CPU of a process group, in millicores, through the kernel's cgroups: v1 or v2, whichever limits CPU.

Only threads of the fair class are limited: what runs as SCHED_FIFO or SCHED_RR goes on unthrottled. Where
systemd owns a cgroup, a later daemon-reload puts its own value back; the reading shows it.
"""

import math
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from microopt.agent import Context
from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt_actuator.drivers.base import Access, Driver, Write
from microopt_actuator.drivers.cgroup_files import (
    MAX_PERIOD_US,
    MAX_QUOTA_US,
    MIN_PERIOD_US,
    MIN_QUOTA_US,
    CpuGroup,
    CpuLimit,
)
from microopt_actuator.drivers.cgroup_pods import POD
from microopt_actuator.drivers.cgroup_tree import NO_PID, PID, CgroupTree
from microopt_actuator.settings import ActuatorSettings

MOST_GROUPS = 10_000
_FLOAT_SLACK = 1e-12
"""Relative error of the division that turns a quota back into millicores, with room to spare."""


class CgroupCpu:
    """Reads and writes the CPU limit of cgroups, named by path within the hierarchy, `pod:UID` or `pid:1234`.

    A pod's containers are looked for at each call, as they may be made anew. A pid is, too, and may by then be
    another process's: prefer paths for what lives long.

    Args:
        root: where the cgroup file systems are mounted.
        proc: where the process file system of the same pid namespace is mounted.
        period_us: the time over which the limit holds. A long one lets bursts pass, a short one bounds how
            long a process that is always busy stands still. In v1, a cgroup that is limited keeps its own.
        raise_parents: widen a cgroup above that is narrower than the wish, and take that back when the wish
            shrinks. What an earlier process has widened is not taken back.

    Raises:
        ConfigError: `period_us` is outside what the kernel takes.
    """

    def __init__(
        self,
        root: Path = Path("/sys/fs/cgroup"),
        proc: Path = Path("/proc"),
        period_us: int = 100_000,
        *,
        raise_parents: bool = False,
    ) -> None:
        if not MIN_PERIOD_US <= period_us <= MAX_PERIOD_US:
            raise ConfigError(f"period_us {period_us}: choose {MIN_PERIOD_US} to {MAX_PERIOD_US}, such as 100000")
        self._tree = CgroupTree(root, proc)
        self._period_us = period_us
        self._raise_parents = raise_parents
        self._widened = _WidenedParents()
        self._found: dict[str, CpuGroup] = {}
        self._above: dict[CpuGroup, tuple[CpuGroup, ...]] = {}

    def read_millicores(self, target: str) -> float | None:
        """Return the limit in force, the least of the cgroup's own and those above it; `None` is no limit.

        Raises:
            TemporaryError: there is no such cgroup or process now.
            PermanentError: the target is no cgroup that can be limited.
        """
        group = self._find(target)
        least = min(one.read().millicores for one in (group, *self._ancestors(group)))
        return None if math.isinf(least) else least

    def write_millicores(self, target: str, millicores: float) -> None:
        """Limit the cgroup to `millicores`; a limit that it has already is not written again.

        v1 refuses a child above its parent; v2 takes it, and the parent's limit goes on to rule.

        Raises:
            TemporaryError: there is no such cgroup or process now.
            PermanentError: the value or target cannot be, no right to write, or v1's parent is narrower.
        """
        group, limit, narrower = self._prepared(target, millicores)
        try:
            if self._raise_parents:
                self._widened.widen(narrower, limit)
            # Writing an equal limit is not free: the kernel hands out the whole quota anew.
            if group.read() != limit:
                group.write(limit)
        finally:
            self._widened.take_back(group)

    def plan_millicores(self, target: str, millicores: float) -> tuple[float, list[str]]:
        """Return the millicores that the cgroup will have, and what `write_millicores` would write for it.

        Raises:
            TemporaryError: there is no such cgroup or process now.
            PermanentError: as `write_millicores`, as far as it can be seen before.
        """
        group, limit, narrower = self._prepared(target, millicores)
        steps = []
        if self._raise_parents:
            steps += [one.said(one.read().widened_to(limit)) for one in reversed(narrower)]
        if group.read() != limit:
            steps.append(group.said(limit))
        return limit.millicores, steps

    def tolerance_millicores(self, millicores: float) -> float:
        """Return how far a reading may be from `millicores`: half a µs of quota in each period."""
        return 0.5 * 1000 / self._period_us + abs(millicores) * _FLOAT_SLACK

    def identity(self, target: str) -> str:
        """Return what tells the target's cgroup from a later one of the same name.

        Raises:
            TemporaryError: there is no such cgroup or process now.
        """
        try:
            return str(self._find(target).limit_file.parent.stat().st_ino)
        except FileNotFoundError as error:
            raise TemporaryError(f"cgroup target {target!r}: it has gone just now") from error

    def why_not_writable(self, target: str) -> str:
        """Return what would keep a limit from being written, with the remedy; empty is nothing that can be seen.

        Raises:
            TemporaryError: there is no such cgroup or process now.
            PermanentError: the target is no cgroup that can be limited.
        """
        return self._find(target).why_not_writable()

    def _find(self, target: str) -> CpuGroup:
        """Return the target's cgroup; one that was found and is still there is not looked for again."""
        found = self._found.get(target)
        if found is None or not found.is_there:
            found = self._tree.find(target)
            if not target.startswith((PID, POD)):  # a process may move, and a container be made anew
                self._found[target] = found
        return found

    def _ancestors(self, group: CpuGroup) -> tuple[CpuGroup, ...]:
        """Return the cgroups above, nearest first, which are those that its path names."""
        if group not in self._above:
            if len(self._above) > MOST_GROUPS:  # of processes and containers that came and went
                self._above.clear()
            self._above[group] = tuple(group.ancestors())
        return self._above[group]

    def _prepared(self, target: str, millicores: float) -> tuple[CpuGroup, CpuLimit, list[CpuGroup]]:
        """Return the cgroup, its limit to be, and those above it that are narrower, nearest first."""
        wanted = self._limit(target, millicores)
        group = self._find(target)
        limit = group.in_one_write(wanted)
        narrower = [one for one in self._ancestors(group) if one.read().millicores < limit.millicores]
        if narrower and not self._raise_parents and group.version == 1:
            raise _parent_in_the_way(group, narrower[0], limit)
        return group, limit, narrower

    def _limit(self, target: str, millicores: float) -> CpuLimit:
        if not math.isfinite(millicores) or millicores <= 0:
            raise PermanentError(f"cgroup target {target!r}: {millicores} millicores is not a CPU limit above 0")
        quota_us = round(millicores * self._period_us / 1000)
        if not MIN_QUOTA_US <= quota_us <= MAX_QUOTA_US:
            least, most = (bound * 1000 / self._period_us for bound in (MIN_QUOTA_US, MAX_QUOTA_US))
            raise PermanentError(
                f"cgroup target {target!r}: {millicores:g} millicores is outside {least:g} to {most:g}, "
                f"which the kernel takes at a period of {self._period_us} µs; set the slice's bounds within"
            )
        return CpuLimit(quota_us, self._period_us)


class CgroupDriver:
    """The `Driver` for CPU by cgroup, in millicores; its calls touch kernel memory only and never wait."""

    name = "cgroup"
    unit = "millicores"

    def __init__(self, cpu: CgroupCpu) -> None:
        self._cpu = cpu

    async def plan(self, target: str, value: float) -> Write:
        """Return the writes that limit the target; see `CgroupCpu.plan_millicores`."""
        holds, steps = self._cpu.plan_millicores(target, value)
        tolerance = self._cpu.tolerance_millicores(value)
        return Write(target, value, holds, tolerance, tuple(steps), thing=self._cpu.identity(target))

    async def apply(self, write: Write) -> None:
        """Limit the target; see `CgroupCpu.write_millicores`."""
        self._cpu.write_millicores(write.target, write.value)

    async def read(self, target: str) -> float | None:
        """Return the millicores in force; see `CgroupCpu.read_millicores`."""
        return self._cpu.read_millicores(target)

    async def access(self, target: str) -> Access:
        """Return whether the cgroup's files can be written; see `CgroupCpu.why_not_writable`."""
        why = self._cpu.why_not_writable(target)
        return Access(writable=not why, why=why)

    def absent(self, target: str) -> str:
        """Return a cgroup beside the target, or a process or pod that there cannot be."""
        for kind, none in ((PID, NO_PID), (POD, "microopt-none")):
            if target.startswith(kind):
                return f"{kind}{none}"
        return f"{target.rstrip('/')}-microopt-none"


def opened(settings: ActuatorSettings, _: Context) -> AbstractAsyncContextManager[Driver]:
    """Return the driver with its settings."""
    own = settings.cgroup
    cpu = CgroupCpu(Path(own.root), Path(own.proc), own.period_us, raise_parents=own.raise_parents)
    return nullcontext(CgroupDriver(cpu))


@dataclass(frozen=True, slots=True)
class _Widened:
    original: CpuLimit
    ours: CpuLimit


@dataclass(slots=True)
class _WidenedParents:
    """The parents that this process has made wider, and what they were before."""

    _of: dict[Path, _Widened] = field(default_factory=dict)

    def widen(self, parents: list[CpuGroup], limit: CpuLimit) -> None:
        """Make `parents`, nearest first, wide enough for `limit`, top down as v1 demands."""
        for parent in reversed(parents):
            now = parent.read()
            known = self._of.get(parent.directory)
            original = known.original if known is not None and known.ours == now else now
            wider = now.widened_to(limit)
            parent.write(wider)
            self._of[parent.directory] = _Widened(original, wider)

    def take_back(self, group: CpuGroup) -> None:
        """Narrow what was widened above `group` to its original, or to the widest below it, bottom up."""
        self._of = {directory: it for directory, it in self._of.items() if directory.exists()}
        for parent in group.ancestors():
            widened = self._of.get(parent.directory)
            if widened is None:
                continue
            if parent.read() != widened.ours:
                del self._of[parent.directory]  # set by someone else since, or made anew: theirs now
                continue
            needed = widened.original
            for _, limit in parent.limits_below():
                needed = needed.widened_to(limit)
            if needed.millicores < widened.ours.millicores:
                parent.write(needed)
                self._of[parent.directory] = _Widened(widened.original, needed)


def _parent_in_the_way(group: CpuGroup, parent: CpuGroup, limit: CpuLimit) -> PermanentError:
    return PermanentError(
        f"cgroup {group.path}: {limit.millicores:g} millicores is more than its parent {parent.path} has "
        f"({parent.read().millicores:g}), which cgroup v1 refuses; raise the parent, lower the slice's "
        "ceiling, or set raise_parents"
    )
