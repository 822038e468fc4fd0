"""Where a benchmark lets the actuator write: one target of a driver, and one more for the bare call beside it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

RESOURCE = "gnb_cpu"


class Bare(Protocol):
    """What the driver cannot do without: the system call, or the transaction until it is in force."""

    async def __call__(self, value: float) -> None: ...


async def no_bare(_: float) -> None:
    """Do nothing, where no bare call is compared."""


@dataclass(frozen=True)
class Place:
    """A driver's targets on this machine, and the values that are written in turns."""

    driver: str
    target: str
    """May hold {slice}."""
    unit: str
    values: tuple[float, float]
    bare: Bare
    settings: dict[str, Any] = field(default_factory=dict)
    """The driver's table in [actuator]."""

    def table(self) -> dict[str, Any]:
        """Return the table [actuator]."""
        binding = {"slice": "*", "resource": RESOURCE, "driver": self.driver, "target": self.target}
        return {"bindings": [binding]} | ({self.driver: self.settings} if self.settings else {})


def cpu_hierarchy() -> Path:
    """Return where cgroups that limit CPU are made.

    Raises:
        RuntimeError: there is no such hierarchy.
    """
    root = Path("/sys/fs/cgroup")
    for path in (root, root / "cpu", root / "cpu,cpuacct"):
        control = path / "cgroup.subtree_control"
        if (control.exists() and "cpu" in control.read_text().split()) or (path / "cpu.cfs_quota_us").exists():
            return path
    raise RuntimeError(f"no hierarchy with the cpu controller under {root}")
