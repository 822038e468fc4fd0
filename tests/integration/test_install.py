"""What runs on a switch or a gNB host stays small: the actuator installs without anything numeric."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "safetensors", "matplotlib")
SPARSE = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=SPARSE, capture_output=True, text=True, check=False
    )


@pytest.fixture
def actuator_host(tmp_path):
    """Install `.[actuator]` into an empty environment and return the folder of its commands."""
    # pip works from outside, so that neither this nor the tested environment needs ensurepip.
    made = run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    commands = tmp_path / "venv/bin"
    pip = (sys.executable, "-m", "pip", "--python", commands / "python", "--quiet", "--no-input")
    installed = run(*pip, "install", "--constraint", ROOT / "constraints.txt", f"{ROOT}[actuator]", cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    return commands


@pytest.mark.timeout(300)
def test_the_actuator_installs_and_starts_without_torch_and_numpy(actuator_host, tmp_path):
    question = f"import importlib.util as i; print([m for m in {HEAVY!r} if i.find_spec(m)])"
    found = run(actuator_host / "python", "-c", question, cwd=tmp_path)
    assert found.stdout.strip() == "[]", found.stderr

    usage = run(actuator_host / "microopt-actuator", "--help", cwd=tmp_path)
    assert usage.returncode == 0, usage.stderr
    assert "Usage: microopt-actuator" in usage.stdout
