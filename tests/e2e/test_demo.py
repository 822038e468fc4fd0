"""The whole system as a user starts it: `microopt demo`, shortened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = {
    "slices",
    "intervals",
    "saving_vs_peak",
    "cost_vs_oracle",
    "degradation",
    "threshold",
    "forecast_to_applied_ms_p50",
    "forecast_to_applied_ms_p99",
}


@pytest.mark.timeout(400)
def test_the_demo_holds_two_slices_through_a_swap_and_a_crash_and_leaves_nothing_behind(tmp_path):
    command = [Path(sys.executable).parent / "microopt", "demo", "--json", "--intervals", "6", "--interval-s", "4"]
    environment = {
        **os.environ,
        "MICROOPT_DATA": str(tmp_path / "no-data"),
    }
    done = subprocess.run(
        [*command, "--folder", tmp_path / "demo"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result.keys() >= KEYS
    assert result["problems"] == []
    assert result["slices"] == ["1-000001", "1-000002"]
    assert result["intervals"] == 6
    assert result["saving_vs_peak"] > 0.3
    assert result["cost_vs_oracle"] > 1.0
    for name, realised in result["degradation"].items():
        assert 0.0 <= realised <= result["threshold"][name] + 0.02
    assert [e["what"] for e in result["events"]] == [
        "routed from peak to microopt",
        "optimizer process killed (SIGKILL)",
    ]
    assert all(set(e["effect"]) == set(result["slices"]) for e in result["events"])
    assert "by microopt" in result["events"][1]["effect"]["1-000001"]
    assert (tmp_path / "demo" / "demo.png").stat().st_size > 20_000
    assert _processes_in(tmp_path) == []


def _processes_in(folder: Path) -> list[str]:
    """Return the command lines of processes that were started with something of `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found
