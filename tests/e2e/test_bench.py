"""The benchmarks run, and `microopt` is no dearer than brute force on the same slice model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "benchmarks/run.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run the short form once and return its files."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, str(RUN), "--quick", "--out", str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def test_each_benchmark_writes_what_it_measured_and_on_what(results):
    assert set(results) == {"bus", "solver"}
    assert {"sdk_msgs_per_s", "raw_msgs_per_s", "ratio"} <= set(results["bus"])
    wanted = {"microopt_ms_p50", "grid_ms_p50", "mean_cost", "grid_mean_cost", "infeasible", "pair_ms_p50"}
    assert wanted <= set(results["solver"])
    for one in results.values():
        assert one["quick"] is True
        assert {"processor", "cores", "python", "torch", "nats_py", "nats_server"} == set(one["machine"])


def test_microopt_is_never_dearer_than_a_dense_grid(results):
    found = results["solver"]
    assert found["infeasible"] <= found["grid_infeasible"] < found["settings"]
    assert found["mean_cost"] <= found["grid_mean_cost"] * 1.001
    assert found["worst_cost_ratio"] <= 1.001
