"""The transport network's switch: Open vSwitch in user space, one port a slice, its rate an OVSDB queue."""

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from microopt.errors import ConfigError
from microopt_testbed.live.commands import run
from microopt_testbed.live.network import CORE_PORT

BRIDGE: Final = "n3br"
QUEUE: Final = 0
"""In user space a port's traffic all goes through its queue 0; one port a slice makes that the slice's rate."""
BURST_BITS: Final = 200_000
"""What a switch that had to wait for the CPU may send at once; with a burst of one packet that time is lost."""
_READY_WITHIN_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.02


def database(folder: Path) -> Path:
    """Return the socket at which the switch's database listens."""
    return folder / "db.sock"


class Switch:
    """An ovsdb-server and an ovs-vswitchd of this testbed's own, in the foreground."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.daemons: dict[str, asyncio.subprocess.Process] = {}
        self._environment = {**os.environ, "OVS_RUNDIR": str(folder), "OVS_LOGDIR": str(folder)}

    async def start(self, ports: Iterable[str], queue_max_mbps: float) -> None:
        """Start the switch with the slices' `ports`, whose queues may have up to `queue_max_mbps`.

        Raises:
            ConfigError: Open vSwitch is not installed, or does not start.
        """
        socket = database(self._folder)
        file = self._folder / "conf.db"
        run("ovsdb-tool", "create", str(file))
        await self._daemon("ovsdb-server", str(file), f"--remote=punix:{socket}")
        await self._until_exists(socket, "ovsdb-server")
        self.ask("--no-wait", "init")
        await self._daemon("ovs-vswitchd", f"unix:{socket}")
        self.ask("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev", "fail_mode=standalone")
        self.ask("add-port", BRIDGE, CORE_PORT)
        for port in ports:
            self.ask("add-port", BRIDGE, port)
            self.ask(*_queue(port, queue_max_mbps))

    def ask(self, *words: str) -> str:
        """Return what ovs-vsctl says, once the switch does as it was told."""
        command = ("ovs-vsctl", f"--db=unix:{database(self._folder)}", "--timeout=10", *words)
        return run(*command, environment=self._environment)

    async def _daemon(self, program: str, *words: str) -> None:
        log = self._folder / f"{program}.log"
        executable = shutil.which(program)
        if executable is None:
            raise ConfigError(f"{program} is not installed; Debian has it in openvswitch-switch")
        with log.open("ab") as output:
            self.daemons[program] = await asyncio.create_subprocess_exec(
                executable,
                *words,
                f"--unixctl={self._folder / program}.ctl",
                "-vconsole:warn",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
            )

    async def _until_exists(self, socket: Path, program: str) -> None:
        for _ in range(round(_READY_WITHIN_S / _LOOK_EVERY_S)):
            if await asyncio.to_thread(socket.exists):
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        raise ConfigError(f"{program} does not start; see {self._folder / program}.log")


def _queue(port: str, max_mbps: float) -> list[str]:
    most = f"other-config:max-rate={round(max_mbps * 1e6)}"
    burst = f"other-config:burst={BURST_BITS}"
    queue = ["--id=@queue", "create", "queue", most, most.replace("max", "min"), burst]
    qos = ["--id=@qos", "create", "qos", "type=linux-htb", most, f"queues:{QUEUE}=@queue"]
    return ["--", *queue, "--", *qos, "--", "set", "port", port, "qos=@qos"]
