"""Daemons of the outside world that a test starts, kills and starts again."""

import asyncio
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from microopt.broker import is_listening

WAIT_S: Final = 30.0


class Process:
    """A daemon that is started, killed and started again by a test."""

    def __init__(self, command: list[str], log: Path, port: int) -> None:
        self.port = port
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self.begin)

    async def kill(self) -> None:
        await asyncio.to_thread(self.end, signal.SIGKILL)

    async def stop(self) -> None:
        await asyncio.to_thread(self.end, signal.SIGTERM)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def begin(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        give_up = time.monotonic() + WAIT_S
        while not self.is_ready():
            assert self._process.poll() is None, self._log.read_text(errors="replace")
            assert time.monotonic() < give_up, self._log.read_text(errors="replace")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        return is_listening("127.0.0.1", self.port)

    def end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def executable(name: str, *folders: str) -> str:
    found = shutil.which(name) or next((f"{f}/{name}" for f in folders if Path(f, name).exists()), None)
    assert found, f"{name} is missing: scripts/setup.sh installs it"
    return found
