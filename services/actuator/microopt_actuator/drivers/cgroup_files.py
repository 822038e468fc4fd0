"""The CPU limit of one cgroup, as the kernel keeps it (cgroup-v2.rst; v1: sched-bwc.rst)."""

import contextlib
import errno
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from microopt.errors import MicrooptError, PermanentError, TemporaryError

MIN_QUOTA_US = 1_000
MAX_QUOTA_US = 2**44 - 1
MIN_PERIOD_US = 1_000
MAX_PERIOD_US = 1_000_000

MAX_FILE = "cpu.max"
QUOTA_FILE = "cpu.cfs_quota_us"
PERIOD_FILE = "cpu.cfs_period_us"
_BURST_FILES = {1: "cpu.cfs_burst_us", 2: "cpu.max.burst"}

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ESRCH})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNACCEPTABLE = frozenset({errno.EINVAL, errno.ERANGE, errno.ENAMETOOLONG})


_LONGEST = 256
"""Of what is read of a file: two numbers."""


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """CPU time `quota_us` that a cgroup may use in each `period_us`; no quota is no limit."""

    quota_us: int | None
    period_us: int

    @property
    def millicores(self) -> float:
        """Return the limit in millicores; infinity where there is none."""
        return math.inf if self.quota_us is None else self.quota_us * 1000 / self.period_us

    def widened_to(self, other: "CpuLimit") -> "CpuLimit":
        """Return the least limit with this period that holds both this limit and `other`."""
        if self.quota_us is None or other.quota_us is None:
            return CpuLimit(None, self.period_us)
        # Rounded up, because v1 refuses a child whose parent is 1 µs short.
        needed_us = -(-other.quota_us * self.period_us // other.period_us)
        return CpuLimit(max(self.quota_us, needed_us), self.period_us)


@dataclass(frozen=True, slots=True)
class CpuGroup:
    """One cgroup that has a CPU limit: its directory, and the mount and version of its hierarchy."""

    directory: Path
    mount: Path
    version: int

    @property
    def path(self) -> str:
        """Return the path within the hierarchy, as a target is written."""
        return f"/{self.directory.relative_to(self.mount)}"

    @property
    def is_there(self) -> bool:
        """Return whether the cgroup is there, and limits CPU."""
        return os.path.exists(f"{self.directory}/{MAX_FILE if self.version == 2 else QUOTA_FILE}")  # noqa: PTH110

    @property
    def limit_file(self) -> Path:
        """Return the file whose presence says that this hierarchy limits CPU."""
        return self.directory / (MAX_FILE if self.version == 2 else QUOTA_FILE)

    def read(self) -> CpuLimit:
        """Return this cgroup's own limit, whatever its ancestors have.

        Raises:
            TemporaryError: the cgroup is gone.
            PermanentError: its files cannot be read or say something else than a limit.
        """
        try:
            return self._read()
        except OSError as error:
            raise refusal(error, self.directory, "reading its CPU limit") from error
        except (ValueError, ZeroDivisionError) as error:
            raise PermanentError(
                f"cgroup {self.directory}: its CPU limit reads {error}; is this a cgroup mount?"
            ) from error

    def write(self, limit: CpuLimit) -> None:
        """Put `limit` in force; whatever the kernel refuses leaves the previous limit.

        Raises:
            TemporaryError: the cgroup is gone.
            PermanentError: no right to write, or the kernel refuses the value.
        """
        text = f"writing quota {_quota_text(limit, 'max')} and period {limit.period_us} µs"
        try:
            if self.version == 2:
                write_control(self.directory / MAX_FILE, f"{_quota_text(limit, 'max')} {limit.period_us}")
            else:
                self._write_v1(self._read(), limit)
        except OSError as error:
            why = ""
            if error.errno == errno.EINVAL:
                with contextlib.suppress(OSError):
                    why = self._why_invalid(limit)
            raise refusal(error, self.directory, text, why) from error

    def in_one_write(self, limit: CpuLimit) -> CpuLimit:
        """Return `limit` as one write can put it in force: v1 keeps the period of a cgroup that has a limit.

        Its quota and period are a file each, and who is killed between two writes would leave neither the old
        limit nor the new one. Where the kernel takes no such quota at that period, the quota stays instead.

        Raises:
            TemporaryError: the cgroup is gone.
            PermanentError: no one write can do it, or its files cannot be read or say something else than a limit.
        """
        now = self.read() if self.version == 1 else limit
        if now.quota_us is None or limit.quota_us is None or now.period_us == limit.period_us:
            return limit
        quota_us = round(limit.quota_us * now.period_us / limit.period_us)
        if MIN_QUOTA_US <= quota_us <= MAX_QUOTA_US:
            return CpuLimit(quota_us, now.period_us)
        period_us = round(now.quota_us * limit.period_us / limit.quota_us)
        if MIN_PERIOD_US <= period_us <= MAX_PERIOD_US:
            return CpuLimit(now.quota_us, period_us)
        raise PermanentError(
            f"cgroup {self.directory}: from {now.quota_us} µs in {now.period_us} µs to {limit.millicores:g} "
            f"millicores takes two writes, between which it would have neither; write -1 to its {QUOTA_FILE} first"
        )

    def why_not_writable(self) -> str:
        """Return what would keep `write` from writing, with the remedy; empty is nothing that the kernel tells.

        Raises:
            TemporaryError: the cgroup is gone.
        """
        names = (MAX_FILE,) if self.version == 2 else (QUOTA_FILE, PERIOD_FILE)
        try:
            code = errno.EROFS if os.statvfs(self.directory).f_flag & os.ST_RDONLY else 0
        except OSError as error:
            raise refusal(error, self.directory, "looking whether its CPU limit can be written") from error
        if not code and not all(os.access(self.directory / name, os.W_OK, effective_ids=True) for name in names):
            code = errno.EACCES
        said = f"{' and '.join(names)} cannot be written"
        return str(refusal(OSError(code, os.strerror(code)), self.directory, said)) if code else ""

    def said(self, limit: CpuLimit) -> str:
        """Return what `write` writes for `limit`, for people."""
        if self.version == 2:
            return f"{self.directory / MAX_FILE}: {_quota_text(limit, 'max')} {limit.period_us}"
        return f"{self.directory / QUOTA_FILE}: {_quota_text(limit, '-1')}, {PERIOD_FILE}: {limit.period_us}"

    def ancestors(self) -> Iterator["CpuGroup"]:
        """Yield the cgroups above, nearest first; the top one only where it has a limit (v2 has none)."""
        for directory in self.directory.parents:
            group = CpuGroup(directory, self.mount, self.version)
            if directory == self.mount:
                if group.limit_file.exists():
                    yield group
                return
            yield group

    def limits_below(self) -> Iterator[tuple["CpuGroup", CpuLimit]]:
        """Yield each cgroup below that has a limit of its own; one that vanishes meanwhile is left out."""
        for directory, _, files in os.walk(self.directory):  # unlike rglob it bears directories that vanish
            group = CpuGroup(Path(directory), self.mount, self.version)
            if group == self or self.limit_file.name not in files:
                continue
            try:
                limit = group.read()
            except TemporaryError:
                continue
            if limit.quota_us is not None:
                yield group, limit

    def _read(self) -> CpuLimit:
        if self.version == 2:
            return parse_cpu_max(_text(self.directory, MAX_FILE))
        quota_us = int(_text(self.directory, QUOTA_FILE))
        period_us = int(_text(self.directory, PERIOD_FILE))
        return _limit(quota_us if quota_us >= 0 else None, period_us)

    def _write_v1(self, now: CpuLimit, limit: CpuLimit) -> None:
        for steps in v1_orders(now, limit):
            try:
                self._write_steps(now, steps)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                refused = error
        raise refused

    def _write_steps(self, now: CpuLimit, steps: list[tuple[str, str]]) -> None:
        before = {QUOTA_FILE: _quota_text(now, "-1"), PERIOD_FILE: str(now.period_us)}
        done: list[str] = []
        try:
            for file, text in steps:
                write_control(self.directory / file, text)
                done.append(file)
        except OSError:
            for file in reversed(done):
                write_control(self.directory / file, before[file])
            raise

    def _why_invalid(self, limit: CpuLimit) -> str:
        burst = self.directory / _BURST_FILES[self.version]
        if burst.exists() and int(burst.read_text()) > (limit.quota_us or MAX_QUOTA_US):
            return f"{burst.name} is {burst.read_text().strip()} µs, above the quota: write 0 to it"
        if self.version == 1:
            for below, its in self.limits_below():
                if its.millicores > limit.millicores:
                    return f"{below.path} below it has {its.millicores:g} millicores: lower that one first"
        return "check that no other agent changes this cgroup or those above it"


def parse_cpu_max(text: str) -> CpuLimit:
    """Return the limit that a `cpu.max` file says: `max 100000`, or quota and period in µs.

    Raises:
        ValueError: it says something else.
    """
    words = text.split()
    if len(words) != 2:
        raise ValueError(repr(text))
    return _limit(None if words[0] == "max" else int(words[0]), int(words[1]))


def v1_orders(now: CpuLimit, limit: CpuLimit) -> list[list[tuple[str, str]]]:
    """Return the ways, best first, to get from `now` to `limit` in writes of one file each.

    v1 checks the ratio at every write, against the parent and the children, so the state between the two
    writes can be refused although the end is fine. The first way errs upward, lest a slice be starved
    meanwhile; the last passes through "no limit of its own", which is never refused.
    """
    quota, period = (QUOTA_FILE, _quota_text(limit, "-1")), (PERIOD_FILE, str(limit.period_us))
    if now.period_us == limit.period_us:
        return [[quota]]
    if now.quota_us == limit.quota_us:  # also where both are no limit
        return [[period]]
    if now.quota_us is None:  # without a limit the period means nothing
        return [[period, quota]]
    upward = [[period, quota], [quota, period]]
    if limit.period_us > now.period_us:
        upward.reverse()
    return [*upward, [(QUOTA_FILE, "-1"), period, quota]]


def write_control(file: Path, text: str) -> None:
    """Write `text` to a control file in one write; never make the file, never follow a link.

    Raises:
        OSError: as the kernel says.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def refusal(error: OSError, where: Path, doing: str, why: str = "") -> MicrooptError:
    """Return the error to raise for what the kernel said at `where` while `doing` something."""
    said = f"cgroup {where}: {doing}: {error.strerror or error}"
    if error.errno in _GONE:
        return TemporaryError(f"{said}; it is gone and may come back with its pod or process")
    if error.errno in _FORBIDDEN:
        return PermanentError(
            f"{said}; run the actuator as root (or owner of a delegated cgroup) with the host's cgroup file "
            "system mounted read-write"
        )
    if error.errno in _UNACCEPTABLE:
        return PermanentError(f"{said}; {why or 'the kernel does not take this value'}")
    if error.errno == errno.ELOOP:
        return PermanentError(f"{said}; a symbolic link stands where a control file is expected: remove it")
    return TemporaryError(said)


def _limit(quota_us: int | None, period_us: int) -> CpuLimit:
    if period_us <= 0:
        raise ValueError(f"period {period_us} µs")
    return CpuLimit(quota_us, period_us)


def _quota_text(limit: CpuLimit, unlimited: str) -> str:
    return unlimited if limit.quota_us is None else str(limit.quota_us)


def _text(directory: Path, name: str) -> str:
    """Return what a file of the kernel says; a thousand slices are read a second, and pathlib takes its time."""
    descriptor = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST).decode("ascii")
    finally:
        os.close(descriptor)
