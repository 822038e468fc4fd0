"""The data plane as one process: process 1 of namespaces of its own, so that the kernel ends all of it with it.

It is started by `lab.Lab` under unshare(1), is told on its standard input how many UEs each slice has, and says on
its standard output what they got. When its input ends, whoever started it is gone, and so is everything else.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from microopt.errors import MicrooptError
from microopt_testbed.live import leavings, network, role
from microopt_testbed.live.addresses import CORE
from microopt_testbed.live.role import RoleSettings
from microopt_testbed.live.switch import Switch

READY_WITHIN_S: Final = 30.0
LONGEST_LINE: Final = 1 << 20


class SlicePlane(Struct, frozen=True, kw_only=True):
    """A slice's processes, and the cgroups (one for each hierarchy) that its gNB belongs into."""

    role: RoleSettings
    cgroups: tuple[str, ...]


class PlaneSettings(Struct, frozen=True, kw_only=True):
    """All that the data plane is."""

    folder: str
    tops: tuple[str, ...]
    """The cgroups that hold the slices' cgroups; whoever starts this has made them, and this removes them."""
    slices: tuple[SlicePlane, ...]
    users: int
    link_mbps: float
    slot_s: float


class Told(Struct, frozen=True):
    """One line of the input: how many UEs of a slice have traffic."""

    slice: str
    users: int


class Plane:
    """Builds the data plane, relays what its processes say and are told."""

    def __init__(self, settings: PlaneSettings) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        self._told: dict[str, list[asyncio.StreamWriter]] = {}
        self._relays: list[asyncio.Task[None]] = []
        self._ready: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Build everything and relay, until the input ends.

        Raises:
            ConfigError: something of it cannot be made here.
        """
        following = asyncio.create_task(self._follow())
        building = asyncio.create_task(self._build())
        await asyncio.wait({following, building}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            await building
            await following

    async def _build(self) -> None:
        nets = [one.role.net for one in self._settings.slices]
        network.build(nets, self._settings.users, self._settings.link_mbps)
        switch = Switch(self._folder)
        await switch.start([net.port for net in nets], self._settings.link_mbps)
        for one in self._settings.slices:
            await self._start_slice(one)
        self._relays.append(asyncio.create_task(self._report_ports()))
        role.say(ready=True)

    async def _start_slice(self, one: SlicePlane) -> None:
        net, name = one.role.net, one.role.slice
        core = await self._start("core", CORE, one.role)
        gnb = await self._start("gnb", net.gnb_namespace, one.role)
        ue = await self._start("ue", net.ue_namespace, one.role)
        async with asyncio.timeout(READY_WITHIN_S):
            for _ in range(3):
                await self._ready.get()
        _move(gnb.pid, one.cgroups)  # only now: with a small quota it would take long to start
        self._told[name] = [process.stdin for process in (core, ue) if process.stdin]

    async def _start(self, kind: str, namespace: str, settings: RoleSettings) -> asyncio.subprocess.Process:
        file = self._folder / f"{kind}{settings.index}.json"
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(settings))
        with file.with_suffix(".log").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *("ip", "netns", "exec", namespace, sys.executable, "-m", f"microopt_testbed.live.{kind}"),
                str(file),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=LONGEST_LINE,
            )
        self._relays.append(asyncio.create_task(self._relay(kind, settings.slice, process)))
        return process

    async def _relay(self, kind: str, slice_: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  # asked for above
        while line := await process.stdout.readline():
            said: dict[str, Any] = msgspec.json.decode(line)
            if said.pop("ready", False):
                self._ready.put_nowait(kind)
            if said:
                role.say(slice=slice_, **said)
        role.say(ended=f"{kind} of slice {slice_}, with status {await process.wait()}")

    async def _report_ports(self) -> None:
        """Say at the end of each slot how many bytes left the switch towards each gNB."""
        slot_s = self._settings.slot_s
        ports = {one.role.slice: one.role.net.port for one in self._settings.slices}
        before: dict[str, int] = {}
        while True:
            end_s = (time.time() // slot_s + 1) * slot_s
            await asyncio.sleep(end_s - time.time())
            sent = {name: _sent_bytes(port) for name, port in ports.items()}
            for name in before:
                role.say(slice=name, port={"begin_s": end_s - slot_s, "bytes": sent[name] - before[name]})
            before = sent

    async def _follow(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            told = msgspec.json.decode(line, type=Told)
            for writer in self._told[told.slice]:
                with suppress(ConnectionError):  # it has ended, as its relay says
                    writer.write(msgspec.json.encode({"users": told.users}) + b"\n")
                    await writer.drain()


def _move(pid: int, cgroups: Iterable[str]) -> None:
    for cgroup in cgroups:
        Path(cgroup, "cgroup.procs").write_text(str(pid), encoding="ascii")


def _sent_bytes(port: str) -> int:
    """Return what a port has sent, by the counters of this process's own network namespace."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == port:
            return int(numbers.split()[8])
    return 0


def _end_all(settings: PlaneSettings) -> None:
    """End every process of these namespaces but this one, and remove what they had outside."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    leavings.remove(Path(settings.folder), map(Path, settings.tops))


def main() -> None:
    """Run until the input ends; process 1 has no default for signals."""
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=PlaneSettings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        asyncio.run(Plane(settings).run())
    except MicrooptError as error:
        role.say(failed=str(error))
    except KeyboardInterrupt:
        pass
    finally:
        _end_all(settings)


if __name__ == "__main__":
    main()
