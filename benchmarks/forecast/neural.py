"""Asking the environment of NeuralProphet for its rows."""

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

HERE = Path(__file__).parents[1]


class Asked:
    """A process that measures NeuralProphet while others are measured here.

    Raises:
        ClickException: `python` is not there.
    """

    def __init__(self, python: Path, quick: bool, data: Path) -> None:
        if not python.exists():
            raise click.ClickException(
                f"{python}: no environment for NeuralProphet; `make bench-forecast` makes it, "
                "--without-neuralprophet does without"
            )
        self._folder = TemporaryDirectory()
        self._out = Path(self._folder.name) / "rows.json"
        command = [str(python), "-m", "forecast.neural_process", str(self._out), "quick" if quick else "whole"]
        environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [*command, str(data.resolve())], env=environment, stdout=subprocess.DEVNULL, cwd=self._folder.name
        )

    def rows(self) -> dict[str, Any]:
        """Return its rows and settings when it is through.

        Raises:
            ClickException: it failed; what it said is above.
        """
        try:
            if self._process.wait() != 0:
                raise click.ClickException(f"NeuralProphet's process ended with {self._process.returncode}")
            return json.loads(self._out.read_bytes())
        finally:
            self.end()

    def end(self) -> None:
        """End the process if it runs, and remove its folder."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def beside(environment: str) -> Path:
    """Return the interpreter of an environment; `VENV_NEURALPROPHET` names another one than `environment`."""
    name = os.environ.get("VENV_NEURALPROPHET") or environment
    return Path(name).absolute() / "bin" / "python"
