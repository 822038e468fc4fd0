"""How much CPU the processes of a slice use, and how much more they want: the kernel's cgroup files."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from microopt.ids import slice_id
from microopt.messages import Name
from microopt_collector.sources import cgroup_files
from microopt_collector.sources.base import CommonSettings, Measurement, Rejected, Sink
from microopt_collector.sources.mapping import check_slices


class Group(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cgroup, and the resource of a slice that it is."""

    slice: str
    resource: Name
    path: Annotated[str, Meta(pattern=r"^/?[^/]+(/[^/]+)*/?$")]
    """Below the root, such as /kubepods.slice/…"""

    def __post_init__(self) -> None:
        check_slices({}, self.slice)
        if ".." in self.path.split("/"):
            raise ValueError(f"path {self.path!r} leads out of the hierarchy")


class CgroupSourceSettings(
    CommonSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cgroup"
):
    """Which cgroups to read, and how often."""

    groups: Annotated[tuple[Group, ...], Meta(min_length=1)]
    name: Name = "cgroup"
    period_s: Annotated[float, Meta(ge=0.05, le=3600.0)] = 1.0
    root: str = "/sys/fs/cgroup"

    @property
    def where(self) -> str:
        """Return the paths."""
        return " ".join(group.path for group in self.groups)

    def __post_init__(self) -> None:
        keys = Counter((slice_id(group.slice), group.resource) for group in self.groups)
        if twice := sorted(f"{slice_} {resource}" for (slice_, resource), count in keys.items() if count > 1):
            raise ValueError(f"groups: {', '.join(twice)} given twice; name the cgroup that holds both")


class CgroupSource:
    """Reads at each multiple of the period; a cgroup that is gone is said and looked for again."""

    def __init__(self, settings: CgroupSourceSettings) -> None:
        self._settings = settings
        self._last: dict[Group, cgroup_files.Reading] = {}

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._settings.name

    async def run(self, sink: Sink) -> None:
        """Read for ever."""
        self._last.clear()
        while True:
            began = time.perf_counter()
            sink.up(self._poll(sink))
            sink.took(time.perf_counter() - began)
            period_s = self._settings.period_s
            await asyncio.sleep(period_s - time.time() % period_s)

    def _poll(self, sink: Sink) -> bool:
        """Hand over a measurement for each slice; return whether all cgroups could be read."""
        found: dict[str, Measurement] = {}
        complete = True
        now_s = time.time()
        for group in self._settings.groups:
            try:
                rates = self._rates(group)
            except Rejected as error:
                complete = complete and error.reason == "reset"
                sink.reject(b"", subject=f"{self.name}: {group.path}", error=error)
                continue
            if rates is not None:
                slice_ = slice_id(group.slice)
                one = found.setdefault(slice_, Measurement(slice=slice_, time_s=now_s, source=self.name))
                _note(one, group.resource, rates)
        for one in found.values():
            try:
                sink.emit(one)
            except Rejected as error:
                sink.reject(b"", subject=f"{self.name}: {one.slice}", error=error)
        return complete

    def _rates(self, group: Group) -> cgroup_files.Rates | None:
        """Return the rates since the last reading; None at the first.

        Raises:
            Rejected: the cgroup cannot be read, or is a new one.
        """
        before = self._last.pop(group, None)
        after = cgroup_files.read(Path(self._settings.root), group.path, time.monotonic())
        self._last[group] = after
        return None if before is None else cgroup_files.rates(before, after)


def _note(one: Measurement, resource: str, rates: cgroup_files.Rates) -> None:
    one.usage[resource] = rates.usage_millicores
    if rates.throttled is not None:
        one.throttled[resource] = rates.throttled
    if rates.pressure is not None:
        one.pressure[resource] = rates.pressure
