"""A nats-server and a mosquitto for one trial, on loopback."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from microopt.broker import find_executable, free_port, is_listening
from microopt.errors import ConfigError


@asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[str]:
    """Run a nats-server as it comes, which puts what it stored on disk every two minutes, and yield its URL."""
    port = free_port()
    command = [find_executable(), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder / "nats")]
    async with _running(command, port):
        yield f"nats://127.0.0.1:{port}"


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[int]:
    """Run a mosquitto and yield its port."""
    executable = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if executable is None:
        raise ConfigError("mosquitto is missing; install Debian's package of that name")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n"
        "max_queued_messages 100000\nmax_inflight_messages 1000\n"
    )
    async with _running([executable, "-c", str(config)], port):
        yield port


@asynccontextmanager
async def _running(command: list[str], port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        while not await asyncio.to_thread(is_listening, "127.0.0.1", port):
            if process.returncode is not None:
                raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
            await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()
