"""CPU of a systemd unit, in millicores, through systemd itself, which undoes what others write to its cgroups.

The property is set at runtime: it outlives a daemon-reload and a restart of the unit, and ends with the host's
boot. The unit's cgroup is what is read, as systemd goes on saying its own value when somebody else wrote there.
Real-time threads go on unthrottled, as by `cgroup`.
"""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from microopt.agent import Context
from microopt.errors import ConfigError, PermanentError
from microopt_actuator.drivers.base import WRITABLE, Access, Driver, Write
from microopt_actuator.drivers.cgroup import CgroupCpu
from microopt_actuator.drivers.cgroup_files import MAX_PERIOD_US, MIN_PERIOD_US
from microopt_actuator.drivers.systemd_bus import ALLOW, SystemdBus
from microopt_actuator.settings import ActuatorSettings

QUOTA: Final = "CPUQuotaPerSecUSec"
PERIOD: Final = "CPUQuotaPeriodUSec"
CGROUP: Final = "ControlGroup"
INFINITY_US: Final = 2**64 - 1

_MILLICORES_PER_PERCENT: Final = 10
_US_PER_PERCENT: Final = 10_000
_MAX_MILLICORES: Final = 1e9
_TOLERANCE_MILLICORES: Final = 1000 / MIN_PERIOD_US
"""systemd cuts the quota of a period to whole µs; percents are ten times as far apart."""

_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,246}\.(service|scope|slice)")
_ROOT_SLICE: Final = "-.slice"


class SystemdDriver:
    """The `Driver` for CPU by systemd, in millicores; a target is a unit's name, such as `srsran-gnb.service`.

    Values are rounded up to whole percents of a core, 10 millicores. systemd takes finer ones, but most of its
    versions cut them to whole percents at the next daemon-reload. Container runtimes round up too.

    Args:
        bus: where systemd is asked.
        cgroups: where the units' cgroups are read; nothing is written there.
        period_us: the time over which the limit holds; `None` leaves it as it is (systemd 242 has it).

    Raises:
        ConfigError: `period_us` is outside what the kernel takes.
    """

    name = "systemd"
    unit = "millicores"

    def __init__(self, bus: SystemdBus, cgroups: CgroupCpu, period_us: int | None = None) -> None:
        if period_us is not None and not MIN_PERIOD_US <= period_us <= MAX_PERIOD_US:
            raise ConfigError(
                f"[actuator.systemd] period_us {period_us}: choose {MIN_PERIOD_US} to {MAX_PERIOD_US}, "
                "such as 100000"
            )
        self._bus = bus
        self._cgroups = cgroups
        self._period_us = period_us

    async def plan(self, target: str, value: float) -> Write:
        """Return the properties that limit the unit.

        Raises:
            TemporaryError: the unit is not loaded, or systemd does not answer.
            PermanentError: the target is no unit that can be limited or read, or the value no limit.
        """
        quota_us = quota_of(target, value)
        missing = await self._missing(target, quota_us)
        steps = tuple(
            f"systemctl set-property --runtime {target} {_assigned(name, value_us)}"
            for name, value_us in missing.items()
        )
        return Write(target, value, quota_us / 1000, _TOLERANCE_MILLICORES, steps)

    async def apply(self, write: Write) -> None:
        """Set those properties that are not in force yet, at runtime.

        Raises:
            TemporaryError: the unit is not loaded, or systemd does not answer.
            PermanentError: systemd refuses; the text names the remedy.
        """
        if missing := await self._missing(write.target, quota_of(write.target, write.value)):
            await self._bus.set_runtime(write.target, missing)

    async def read(self, target: str) -> float | None:
        """Return the limit in force, the least of the unit's cgroup and those above it.

        Of a unit that does not run it is the limit that it will have; `None` is one to which systemd gives none.

        Raises:
            TemporaryError: the unit is not loaded, or systemd does not answer.
            PermanentError: the target is no unit that can be limited, or may not be read.
        """
        quota_us = await self._bus.number(_checked(target), QUOTA)
        if quota_us == INFINITY_US:  # then there need not be a file that says so
            return None
        cgroup = await self._bus.text(target, CGROUP)
        return self._cgroups.read_millicores(cgroup) if cgroup else quota_us / 1000

    async def access(self, target: str) -> Access:
        """Return whether systemd takes what we set; of a user whom it asks polkit about, nobody says before."""
        if await self._bus.is_trusted(_checked(target)):
            return WRITABLE
        return Access(writable=None, why=f"whether this user may, polkit says only at a write; if not, {ALLOW}")

    def absent(self, target: str) -> str:
        """Return a unit of the same kind that nobody has loaded."""
        return f"microopt-none.{_checked(target).rpartition('.')[2]}"

    async def _missing(self, target: str, quota_us: int) -> dict[str, int]:
        """Return the properties that are to be set."""
        missing = {}
        in_force = await self.read(target)
        is_held = in_force is not None and abs(in_force - quota_us / 1000) <= _TOLERANCE_MILLICORES
        # What systemd believes counts as well: it is what a daemon-reload brings back.
        if not is_held or await self._bus.number(target, QUOTA) != quota_us:
            missing[QUOTA] = quota_us
        if self._period_us is not None and await self._bus.number(target, PERIOD) != self._period_us:
            missing[PERIOD] = self._period_us
        return missing


@asynccontextmanager
async def opened(settings: ActuatorSettings, _: Context) -> AsyncIterator[Driver]:
    """Open the driver; it connects when it is first used, and again whenever the bus was away."""
    own = settings.systemd
    bus = SystemdBus(own.address, own.timeout_s)
    try:
        yield SystemdDriver(bus, CgroupCpu(Path(own.root)), own.period_us)
    finally:
        await bus.close()


def quota_of(target: str, millicores: float) -> int:
    """Return the quota that `target` is to have, in µs of CPU a second, whole percents of a core.

    Raises:
        PermanentError: the target is no unit that can be limited, or the value no limit.
    """
    _checked(target)
    if not (math.isfinite(millicores) and 0 < millicores <= _MAX_MILLICORES):
        raise PermanentError(f"systemd unit {target}: {millicores} millicores is not a CPU limit above 0")
    # What is above a percent by an error of floating point alone is not rounded up to the next.
    return math.ceil(round(millicores / _MILLICORES_PER_PERCENT, 6)) * _US_PER_PERCENT or _US_PER_PERCENT


def _checked(target: str) -> str:
    if not _UNIT.fullmatch(target):
        raise PermanentError(
            f"systemd target {target!r} is no unit that has a CPU limit; write a name that ends in .service, "
            ".scope or .slice, such as srsran-gnb.service"
        )
    if "@." in target:
        raise PermanentError(
            f"systemd unit {target} is a template, of which nothing runs; name an instance, such as "
            f"{target.replace('@.', '@1.')}"
        )
    if target == _ROOT_SLICE:
        raise PermanentError(f"systemd unit {target} is the root, which has no CPU limit; name a slice below it")
    return target


def _assigned(name: str, value_us: int) -> str:
    """Return a property as systemctl takes it."""
    return f"CPUQuota={value_us // _US_PER_PERCENT}%" if name == QUOTA else f"CPUQuotaPeriodSec={value_us}us"
