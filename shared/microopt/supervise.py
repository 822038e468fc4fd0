"""Child processes that are kept running: started again with growing pauses when they die."""

import asyncio
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import structlog

from microopt.errors import ConfigError

STOP_TIMEOUT_S: Final = 15.0
RESTART_WAITS_S: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
HEALTHY_AFTER_S: Final = 30.0


@dataclass
class Child:
    """One supervised process: what to run, and how often it had to be started."""

    name: str
    command: list[str]
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    """All of it, passwords too; by default that of this process."""
    log_path: Path | None = None
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    exits: list[int] = field(default_factory=list)


class Supervisor:
    """Starts children, starts them again when they end by themselves, and ends them all."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("microopt.supervise")

    def child(self, name: str) -> Child:
        """Return the child called `name`."""
        return self._children[name]

    async def start(self, child: Child) -> None:
        """Start `child` and keep it running.

        Raises:
            ConfigError: its command cannot be run.
        """
        try:
            await self._spawn(child)
        except OSError as error:
            raise ConfigError(f"{child.name}: cannot run {child.command[0]}: {error.strerror}") from error
        self._children[child.name] = child
        self._keepers[child.name] = asyncio.create_task(self._keep(child), name=f"keep:{child.name}")

    async def kill(self, name: str) -> None:
        """Kill a child as a crash would (SIGKILL); it is started again."""
        _signal(self._children[name], signal.SIGKILL)

    async def stop(self) -> None:
        """End every child in order, latest first, and forcibly after a while."""
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        for child in reversed(self._children.values()):
            _signal(child, signal.SIGTERM)
        await asyncio.gather(*(self._end(child) for child in self._children.values()))

    async def _keep(self, child: Child) -> None:
        failures = 0
        while True:
            started = asyncio.get_running_loop().time()
            status = await child.process.wait() if child.process else 0
            child.exits.append(status)
            lived_s = asyncio.get_running_loop().time() - started
            failures = 0 if lived_s > HEALTHY_AFTER_S else failures + 1
            wait_s = RESTART_WAITS_S[min(failures, len(RESTART_WAITS_S) - 1)]
            self._log.warning("child_ended", child=child.name, status=status, restart_in_s=wait_s)
            await asyncio.sleep(wait_s)
            await self._spawn_again(child)

    async def _spawn_again(self, child: Child) -> None:
        while True:
            try:
                return await self._spawn(child)
            except OSError as error:  # an upgrade in progress, no memory, no file descriptors: it may pass
                wait_s = RESTART_WAITS_S[-1]
                self._log.error("child_not_started", child=child.name, error=str(error), again_in_s=wait_s)
                await asyncio.sleep(wait_s)

    async def _spawn(self, child: Child) -> None:
        child.process = await _execute(child)
        child.starts += 1
        self._log.info("child_started", child=child.name, pid=child.process.pid)

    async def _end(self, child: Child) -> None:
        if child.process is None:
            return
        try:
            await asyncio.wait_for(child.process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._log.error("child_killed", child=child.name, after_s=STOP_TIMEOUT_S)
            _signal(child, signal.SIGKILL)
            await child.process.wait()


def tied(command: list[str]) -> list[str]:
    """Return `command` so that the kernel ends it with the process that started it, however that one ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def role_command(role: str) -> list[str]:
    """Return the command line that runs `role` in this environment."""
    return [str(Path(sys.executable).parent / f"microopt-{role}")]


async def _execute(child: Child) -> asyncio.subprocess.Process:
    # In a session of its own: a Ctrl-C reaches the supervisor, which then ends the children in order.
    log: IO[bytes] | None = child.log_path.open("ab") if child.log_path else None
    try:
        return await asyncio.create_subprocess_exec(
            *child.command,
            env=None if child.environment is None else dict(child.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        if log:
            log.close()


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process and child.process.returncode is None:
        child.process.send_signal(number)
