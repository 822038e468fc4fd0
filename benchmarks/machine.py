"""What a measurement was made on and with."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from microopt.broker import find_executable

PASSES = 1_000_000
TRIES = 5


def describe() -> dict[str, Any]:
    """Return processor, cores and the versions that matter; nothing that names the machine itself."""
    server = subprocess.run([find_executable(), "--version"], capture_output=True, text=True, check=True)
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python_loop_ns": round(min(_loop_ns() for _ in range(TRIES)), 1),
        "python": platform.python_version(),
        "torch": version("torch"),
        "nats_py": version("nats-py"),
        "nats_server": server.stdout.split()[-1].removeprefix("v"),
    }


def _loop_ns() -> float:
    """Return what an addition in a loop takes: machines that call themselves the same differ by four times."""
    begun, total = time.perf_counter_ns(), 0
    for n in range(PASSES):
        total += n
    return (time.perf_counter_ns() - begun) / PASSES


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
