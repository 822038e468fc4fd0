"""An agent as a process of its own, with its settings in a file."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from microopt.broker import free_port
from real.process import Process


class AgentProcess(Process):
    """`microopt-<role>` with the table of its role; `inside` are words that the command is run by."""

    def __init__(
        self,
        role: str,
        folder: Path,
        url: str,
        table: dict[str, Any],
        *,
        name: str = "",
        inside: Iterable[str] = (),
    ) -> None:
        port, name = free_port(), name or role
        config = folder / f"{name}.yaml"
        settings = {role: table, "nats": {"url": url}, "http": {"port": port}, "log": {"format": "json"}}
        config.write_bytes(msgspec.yaml.encode(settings))
        others = [name for name in os.environ if name.startswith("MICROOPT_") or name == "NATS_URL"]
        clean = ["env", *(f"--unset={name}" for name in others)]
        executable = Path(sys.executable).parent / f"microopt-{role}"
        super().__init__([*clean, *inside, str(executable), "--config", str(config)], folder / f"{name}.log", port)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def is_ready(self) -> bool:
        return self._get("/readyz") is not None

    def metric(self, name: str) -> float | None:
        """Return a metric's value by its name with labels, as /metrics writes it."""
        for line in (self._get("/metrics") or "").splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return None

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        return None
