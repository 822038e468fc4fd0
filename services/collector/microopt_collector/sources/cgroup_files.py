"""What the kernel counts of a cgroup, v2 or v1, and the rates between two readings."""

import errno
from pathlib import Path
from typing import Final

from msgspec import Struct

from microopt_collector.sources.base import Rejected

MILLICORES_OF_CORES: Final = 1000.0
_V1_USAGE: Final = ("cpuacct", "cpu,cpuacct")
_V1_LIMITS: Final = ("cpu", "cpu,cpuacct")
_NO_PRESSURE: Final = frozenset({errno.ENOENT, errno.EOPNOTSUPP})  # a kernel without PSI, or with it switched off


class Reading(Struct, frozen=True, kw_only=True):
    """Counters at one instant of the monotonic clock; `None`: the kernel does not count it for this group."""

    at_s: float
    usage_us: int
    periods: int | None
    throttled: int | None
    waited_us: int | None


class Rates(Struct, frozen=True, kw_only=True):
    """What happened between two readings; `None` is unknown."""

    usage_millicores: float
    throttled: float | None
    pressure: float | None


def read(root: Path, path: str, at_s: float) -> Reading:
    """Return the counters of the cgroup `path`, in whichever hierarchy below `root` counts CPU.

    Raises:
        Rejected: there is no such cgroup, or it does not count what is needed.
    """
    folder = root / path.strip("/")
    if not folder.exists() and (counted := _first(root, path, _V1_USAGE)) is not None:
        return _read_v1(counted, _first(root, path, _V1_LIMITS), at_s)
    stat = _numbers(_text(folder / "cpu.stat"), folder)
    if "usage_usec" not in stat:
        raise Rejected("missing_field", f"{folder}/cpu.stat: no usage_usec; is this cgroup v2?")
    return Reading(
        at_s=at_s,
        usage_us=stat["usage_usec"],
        periods=stat.get("nr_periods"),
        throttled=stat.get("nr_throttled"),
        waited_us=_waited_us(folder / "cpu.pressure"),
    )


def _read_v1(counted: Path, limited: Path | None, at_s: float) -> Reading:
    """Return what v1 counts: use in one hierarchy, throttling in another or the same, pressure nowhere."""
    stat = _numbers(_text(limited / "cpu.stat"), limited) if limited else {}
    return Reading(
        at_s=at_s,
        usage_us=_numbers("ns " + _text(counted / "cpuacct.usage"), counted)["ns"] // 1000,
        periods=stat.get("nr_periods"),
        throttled=stat.get("nr_throttled"),
        waited_us=None,
    )


def _first(root: Path, path: str, hierarchies: tuple[str, ...]) -> Path | None:
    folders = (root / hierarchy / path.strip("/") for hierarchy in hierarchies)
    return next((folder for folder in folders if folder.exists()), None)


def rates(before: Reading, after: Reading) -> Rates:
    """Return what happened from one reading to the next.

    Raises:
        Rejected: a counter went back, for it is another cgroup of the same name.
    """
    us = (after.at_s - before.at_s) * 1e6
    if after.usage_us < before.usage_us:
        raise Rejected("reset", f"usage_usec went back from {before.usage_us} to {after.usage_us}: a new cgroup")
    return Rates(
        usage_millicores=(after.usage_us - before.usage_us) / us * MILLICORES_OF_CORES,
        throttled=_share(_grown(before.throttled, after.throttled), _grown(before.periods, after.periods)),
        pressure=_share(_grown(before.waited_us, after.waited_us), us),
    )


def _grown(before: int | None, after: int | None) -> int | None:
    if before is None or after is None:
        return None
    if after < before:
        raise Rejected("reset", f"a counter went back from {before} to {after}: a new cgroup")
    return after - before


def _share(part: int | None, whole: float | None) -> float | None:
    """Return the share, at most 1: the kernel updates its counters at different times."""
    return None if part is None or not whole else min(1.0, part / whole)


def _waited_us(path: Path) -> int | None:
    """Return for how long something has waited for the CPU."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        if error.errno in _NO_PRESSURE:
            return None
        raise Rejected("error", f"{path}: {error.strerror}") from error
    for line in text.splitlines():
        kind, *pairs = line.split()
        if kind == "some":
            return _numbers("\n".join(pair.replace("=", " ") for pair in pairs if "total" in pair), path)["total"]
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise Rejected("error", f"{path}: there is no such cgroup (now)") from error
    except OSError as error:
        raise Rejected("error", f"{path}: {error.strerror}") from error


def _numbers(text: str, path: Path) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in (line.split() for line in text.splitlines())}
    except ValueError as error:
        raise Rejected("not_a_number", f"{path}: not as the kernel writes it: {error}") from error
