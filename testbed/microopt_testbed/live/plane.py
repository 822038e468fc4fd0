"""The data plane as one process: process 1 of namespaces of its own, so that the kernel ends all of it with it.

It is started by `lab.Lab` under unshare(1), is told on its standard input how many UEs each slice has, and says on
its standard output what they got. When its input ends, whoever started it is gone, and so is everything else.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from microopt.errors import ConfigError, MicrooptError
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


class Told(Struct, frozen=True):
    """One line of the input: how many UEs of a slice have traffic."""

    slice: str
    users: int


class InputEnded(Exception):
    """Whoever started this is gone, or wants no more of it."""


class Plane:
    """Builds the data plane, relays what its processes say and are told."""

    def __init__(self, settings: PlaneSettings) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        self._told: dict[str, list[asyncio.StreamWriter]] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Build everything and relay, for ever.

        Raises:
            ExceptionGroup: of InputEnded, of a ConfigError that says what cannot be made here, or of a mistake.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._follow())
            await self._build()

    async def _build(self) -> None:
        nets = [one.role.net for one in self._settings.slices]
        network.build(nets, self._settings.users, self._settings.link_mbps)
        switch = Switch(self._folder)
        await switch.start([net.port for net in nets], self._settings.link_mbps)
        for name, daemon in switch.daemons.items():
            self._group.create_task(_watch(name, daemon))
        for one in self._settings.slices:
            await self._start_slice(one)
        role.say(ready=True)

    async def _start_slice(self, one: SlicePlane) -> None:
        net, name = one.role.net, one.role.slice
        core = await self._start("core", CORE, one.role)
        gnb = await self._start("gnb", net.gnb_namespace, one.role)
        ue = await self._start("ue", net.ue_namespace, one.role)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                for _ in range(3):
                    await self._ready.get()
        except TimeoutError:
            raise ConfigError(f"slice {name}: its processes are not ready within {READY_WITHIN_S:g} s") from None
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
        self._group.create_task(self._relay(kind, settings, process))
        return process

    async def _relay(self, kind: str, settings: RoleSettings, process: asyncio.subprocess.Process) -> None:
        """Pass on what a process says, and with each slot what the switch has sent towards its gNB."""
        assert process.stdout is not None  # noqa: S101  # asked for above
        meter = PortMeter(settings.net.port, settings.slot_s)
        while line := await process.stdout.readline():
            said: dict[str, Any] = msgspec.json.decode(line)
            if said.pop("ready", False):
                self._ready.put_nowait(kind)
            if "slot" in said:
                said["slot"]["sent_bytes"] = meter.sent(said["slot"]["begin_s"])
            if said:
                role.say(slice=settings.slice, **said)
        await _watch(f"{kind} of slice {settings.slice}", process)

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
        raise InputEnded


class PortMeter:
    """What a port of the switch has sent from slot to slot, by this process's own network namespace."""

    def __init__(self, port: str, slot_s: float) -> None:
        self._port = port
        self._slot_s = slot_s
        self._before: tuple[float, int] | None = None

    def sent(self, begin_s: float) -> int | None:
        """Return the bytes since the slot before ended; None where that is another one, or the port has gone."""
        now = _sent_bytes(self._port)
        before, self._before = self._before, None if now is None else (begin_s, now)
        if now is None or before is None or begin_s - before[0] > 1.5 * self._slot_s:
            return None
        return now - before[1]


async def _watch(name: str, process: asyncio.subprocess.Process) -> None:
    role.say(ended=f"{name}, with status {await process.wait()}")


def _move(pid: int, cgroups: Iterable[str]) -> None:
    for cgroup in cgroups:
        Path(cgroup, "cgroup.procs").write_text(str(pid), encoding="ascii")


def _sent_bytes(port: str) -> int | None:
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == port:
            return int(numbers.split()[8])
    return None


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
    if os.getpid() != 1:  # else the end of this would be the end of everything on the machine
        raise SystemExit("this is process 1 of the live testbed's namespaces, and started by it alone")
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=PlaneSettings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        asyncio.run(Plane(settings).run())
    except* (InputEnded, KeyboardInterrupt):
        pass
    except* MicrooptError as errors:
        role.say(failed=str(errors.exceptions[0]))
    except* Exception as errors:
        role.say(failed=f"{errors.exceptions[0]!r}")
        raise
    finally:
        _end_all(settings)


if __name__ == "__main__":
    main()
