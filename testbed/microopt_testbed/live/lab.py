"""The live testbed seen from outside: started, told how many UEs there are, listened to, ended without a trace."""

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from microopt.errors import ConfigError
from microopt_testbed.live import leavings
from microopt_testbed.live.addresses import MAX_SLICES, MAX_USERS
from microopt_testbed.live.goodput import UeSlot, mean_mbps
from microopt_testbed.live.pcap import Recording
from microopt_testbed.live.plane import LONGEST_LINE, PlaneSettings, SlicePlane, Told
from microopt_testbed.live.role import RoleSettings
from microopt_testbed.live.switch import QUEUE, database
from microopt_testbed.live.tun import TUN

START_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 10.0
_PRIORITY: Final = ("nice", "-n", "-10")
"""Other work of the machine is not to look like a slice that has too little."""
_UNSHARE: Final = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


class LabSettings(Struct, frozen=True, kw_only=True):
    """What is built; `segments_bits` is the video, a slice's entry in `recordings` is replayed instead."""

    slices: tuple[str, ...]
    segments_bits: tuple[int, ...]
    users: int = 5
    """The UEs of a slice, at most so many with traffic."""
    link_mbps: float = 100.0
    """What the transport link carries, of all slices together."""
    slot_s: float = 1.0
    recordings: dict[str, Recording] = {}

    def __post_init__(self) -> None:
        if not 1 <= len(self.slices) <= MAX_SLICES or len(set(self.slices)) != len(self.slices):
            raise ValueError(f"slices: 1 to {MAX_SLICES} different ones, not {self.slices}")
        if not 1 <= self.users <= MAX_USERS:
            raise ValueError(f"users: 1 to {MAX_USERS}, not {self.users}")


@dataclass(frozen=True, slots=True)
class Measured:
    """One slot of a slice; `qos_mbps` is the mean throughput of its UEs, `transport_mbps` what left the switch."""

    slice: str
    begin_s: float
    users: int
    qos_mbps: float | None
    transport_mbps: float | None


@dataclass
class Lab:
    """A live testbed that runs.

    Raises (from whatever is awaited):
        ConfigError: a process of it has ended; the text says which.
    """

    settings: LabSettings
    folder: Path
    tops: list[Path]
    process: asyncio.subprocess.Process
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """What each gNB has carried and dropped since it began, by reason."""

    @property
    def ovsdb(self) -> str:
        """Return the remote at which the switch's database listens."""
        return f"unix:{database(self.folder)}"

    def queue(self, slice_: str) -> str:
        """Return the slice's queue as the driver `ovs` names it."""
        return f"slice{self.settings.slices.index(slice_) + 1}/{QUEUE}"

    def cgroup(self, slice_: str) -> str:
        """Return the path of the cgroup of the slice's gNB, below the hierarchy."""
        return f"/{self.tops[0].name}/{slice_}"

    async def set_users(self, slice_: str, users: int) -> None:
        """Let so many UEs have traffic from the next slot on."""
        assert self.process.stdin is not None  # noqa: S101  # asked for at the start
        try:
            self.process.stdin.write(msgspec.json.encode(Told(slice_, users)) + b"\n")
            await self.process.stdin.drain()
        except ConnectionError as error:
            raise self._has_ended() from error

    async def measurements(self) -> AsyncIterator[Measured]:
        """Yield each slot of each slice, as it ends."""
        while True:
            said = await self._hear()
            slice_ = said.get("slice", "")
            if "gnb" in said:
                self.counts[slice_] = said["gnb"]
            if "slot" in said:
                yield self._measured(slice_, said["slot"])

    def _measured(self, slice_: str, slot: dict[str, Any]) -> Measured:
        slot_s = self.settings.slot_s
        ues = msgspec.convert(slot["ues"], list[UeSlot])
        sent = slot["sent_bytes"]
        mbps = None if sent is None else 8e-6 * sent / slot_s
        return Measured(slice_, slot["begin_s"], len(ues), mean_mbps(ues, slot_s), mbps)

    async def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101  # asked for at the start
        line = await self.process.stdout.readline()
        if not line:
            raise self._has_ended()
        said: dict[str, Any] = msgspec.json.decode(line)
        if "failed" in said:
            raise ConfigError(said["failed"])
        if "ended" in said:
            raise ConfigError(f"{said['ended']}: {self._last_words()}")
        return said

    def _has_ended(self) -> ConfigError:
        return ConfigError(f"the data plane has ended: {self._last_words()}")

    def _last_words(self) -> str:
        logs = [path.read_text(errors="replace").strip() for path in sorted(self.folder.glob("*.log"))]
        return "; ".join(log.splitlines()[-1] for log in logs if log)[-1000:] or "it said nothing"

    async def until_ready(self) -> None:
        """Wait until packets can flow."""
        try:
            async with asyncio.timeout(START_WITHIN_S):
                while not (await self._hear()).get("ready"):
                    pass
        except TimeoutError:
            raise ConfigError(
                f"the data plane is not ready within {START_WITHIN_S:g} s; see {self.folder}"
            ) from None


@asynccontextmanager
async def running(settings: LabSettings) -> AsyncIterator[Lab]:
    """Build the testbed and yield it; at the end, however that comes, nothing of it is left.

    Raises:
        ConfigError: this is not root, or something of it cannot be made here.
    """
    if os.geteuid() != 0:
        raise ConfigError("the live testbed makes network namespaces and cgroups: run it as root")
    for command in (*_PRIORITY[:1], *_UNSHARE[:1], "ip", "tc", "ovs-vsctl"):
        if shutil.which(command) is None:
            raise ConfigError(
                f"{command} is not installed; the live testbed needs iproute2 and openvswitch-switch"
            )
    if not TUN.exists():
        raise ConfigError(f"{TUN} is missing: modprobe tun, or give it to the container")
    folder, tops = leavings.make(settings.slices, os.getpid())
    try:
        process = await _started(settings, folder, tops)
        try:
            lab = Lab(settings, folder, tops, process)
            await lab.until_ready()
            yield lab
        finally:
            await _ended(process)
    finally:
        leavings.remove(folder, tops)


async def _started(settings: LabSettings, folder: Path, tops: Sequence[Path]) -> asyncio.subprocess.Process:
    file = folder / "plane.json"
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.encode(_plane(settings, folder, tops)))
    with (folder / "plane.log").open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            *(*_PRIORITY, *_UNSHARE, sys.executable, "-m", "microopt_testbed.live.plane", str(file)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=LONGEST_LINE,
            start_new_session=True,  # a Ctrl-C is for us, who end it in order
        )


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Close the input of the data plane, on which it ends itself; kill it if it does not."""
    assert process.stdin is not None  # noqa: S101  # asked for at the start
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()


def _plane(settings: LabSettings, folder: Path, tops: Sequence[Path]) -> PlaneSettings:
    return PlaneSettings(
        folder=str(folder),
        tops=tuple(map(str, tops)),
        slices=tuple(
            SlicePlane(
                role=RoleSettings(
                    slice=name,
                    index=index,
                    keys=tuple(secrets.token_hex(16) for _ in range(settings.users)),
                    slot_s=settings.slot_s,
                    segments_bits=settings.segments_bits,
                    recording=settings.recordings.get(name, ()),
                ),
                cgroups=tuple(str(top / name) for top in tops),
            )
            for index, name in enumerate(settings.slices, start=1)
        ),
        users=settings.users,
        link_mbps=settings.link_mbps,
    )
