"""What a measurement was made on and with."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from microopt.broker import find_executable


def describe() -> dict[str, Any]:
    """Return processor, cores and the versions that matter; nothing that names the machine itself."""
    server = subprocess.run([find_executable(), "--version"], capture_output=True, text=True, check=True)
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": version("torch"),
        "nats_py": version("nats-py"),
        "nats_server": server.stdout.split()[-1].removeprefix("v"),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
