"""The benchmarks run, and `microopt` is no dearer than brute force on the same slice model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TESTS = Path(__file__).parents[1]
MACHINE = {"processor", "python_loop_ns", "cores", "python", "torch", "nats_py", "nats_server"}
PEERS = {"cma_es", "slsqp", "scbo", "grid", "microopt_paper"}
SUMMARY = {"ms_p50", "gap_median", "gap_max", "feasible"}


ROW = {"mase_168", "mase_336", "pinball", "coverage_80", "coverage_90", "coverage_95", "fit_s", "update_s"}
FORECASTERS = {"seasonal-naive", "ces", "ridge", "auto", "auto-ets", "auto-theta", "mstl"}


def run(folder, *command):
    """Run the short form of a benchmark and return the files that it writes, by name."""
    environment = {**os.environ, "PYTHONPATH": f"{BENCHMARKS}:{TESTS}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *command, "--quick", "--out", str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run the short form of `make bench` once."""
    return run(tmp_path_factory.mktemp("bench"), str(BENCHMARKS / "run.py"))


@pytest.fixture(scope="module")
def solver(tmp_path_factory):
    """Run the short form of `make bench-solver` once."""
    return run(tmp_path_factory.mktemp("solver"), "-m", "solver")["solver"]


@pytest.fixture(scope="module")
def forecast(tmp_path_factory):
    """Run the short form of `make bench-forecast` once, on made-up traffic and without NeuralProphet."""
    return run(tmp_path_factory.mktemp("forecast"), "-m", "forecast", "--without-neuralprophet")["forecast"]


def test_each_benchmark_writes_what_it_measured_and_on_what(results):
    assert set(results) == {"bus", "slice_model"}
    assert {"sdk_msgs_per_s", "raw_msgs_per_s", "ratio"} <= set(results["bus"])
    assert {"train_s", "rows", "model"} <= set(results["slice_model"])
    for one in results.values():
        assert one["quick"] is True
        assert set(one["machine"]) == MACHINE


def test_the_solver_is_measured_beside_every_peer(solver):
    single = solver["single"]
    assert {"gap_median", "gap_max", "feasible", "cold_ms_p50", "warm_ms_p50"} <= set(single)
    assert set(single["peers"]) >= PEERS
    for peer in single["peers"].values():
        assert set(peer) >= SUMMARY
    assert set(solver["suite"]) == {"2", "4", "8"}
    for one in solver["suite"].values():
        assert set(one) >= SUMMARY
        assert set(one["peers"]) >= PEERS - {"grid"}
    assert solver["quick"] is True
    assert set(solver["machine"]) == MACHINE


def test_microopt_is_never_dearer_than_a_dense_grid(solver):
    single = solver["single"]
    assert single["feasible"] == single["settings"] > 0
    assert single["worst_excess"] <= 0.0
    assert single["gap_max"] <= 0.001


def test_a_joint_pool_is_held_within_its_bandwidth_and_near_the_dual_bound(solver):
    joint = solver["joint"]
    assert {"cold_s", "warm_s", "peak_rss_mb", "growth"} <= set(joint)
    assert joint["feasible"] == joint["slices"]
    assert joint["within_capacity"] is True
    assert joint["gap_to_dual_bound"] >= -1e-4  # no allocation is below the bound, but for the grid's steps


def test_no_peer_reports_an_allocation_below_the_best_known(solver):
    for one in solver["suite"].values():
        for answers in (one, *one["peers"].values()):
            assert answers["feasible"] == 0 or answers["gap_median"] >= 0.0


def test_forecasts_are_measured_beside_every_peer(forecast):
    for trace in {row["trace"] for row in forecast["rows"]}:
        for horizon in (1, 2):
            rows = [row for row in forecast["rows"] if (row["trace"], row["horizon"]) == (trace, horizon)]
            assert {row["model"] for row in rows} >= FORECASTERS
            for row in rows:
                assert set(row) >= ROW
                assert 0.0 < row["mase_336"] < 10.0
    assert {"milan_hourly_mase", "lte_coverage_90"} <= set(forecast["default"])
    assert forecast["neuralprophet"] is None
    assert {"slices", "update_s", "update_mean_s", "rss_mb"} <= set(forecast["scale"])
    assert set(forecast["machine"]) == MACHINE


@pytest.mark.parametrize("bare", [False, True])
def test_what_the_collector_is_measured_with_arrives_as_telemetry(tmp_path, bare):
    """A trial of `make bench-collector` at a rate that any machine sustains, through mosquitto and nats-server."""
    environment = {**os.environ, "PYTHONPATH": f"{BENCHMARKS}:{BENCHMARKS / 'collector'}"}
    asked = f"'mqtt', bare={bare}, rate=200.0, seconds=1.0, slices=20"
    code = f"import asyncio, trial; one = asyncio.run(trial.run({asked})); print(one.said, one.stored, one.cpu_s)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, stored, cpu_s = done.stdout.split()
    assert int(said) == int(stored) == 200
    assert float(cpu_s) > 0.0


@pytest.mark.root
@pytest.mark.timeout(240)
def test_the_actuator_is_measured_beside_bare_calls(tmp_path):
    found = run(tmp_path, "-m", "actuate")["actuate"]
    for driver in ("cgroup", "tc", "ovs"):
        assert {"applied_ms_p50", "applied_ms_p99", "bare_ms_p50", "verified_ms_p99"} <= set(found[driver])
        assert 0.0 < found[driver]["bare_ms_p50"] < found[driver]["applied_ms_p50"]
    assert 0.0 <= found["ovs_rate_error"] < 1.0
    assert set(found["drift_s_by_cause"]) == {"write", "new_switch", "new_pod"}
    assert found["drift_s"] == max(found["drift_s_by_cause"].values()) > 0.0
    assert {"slices", "seconds", "writes"} <= set(found["restart_1000"])
    assert set(found["machine"]) == MACHINE


@pytest.mark.timeout(240)
def test_what_routing_costs_is_measured_with_one_worker_and_several(tmp_path):
    found = run(tmp_path, "-m", "route", "--only", "latency", "--only", "shadows")["route"]
    for size, rounds in ((1, 2), (3, 1)):
        for figures in (found[f"slices_{size}"], found[f"slices_{size}"]["workers_2"]):
            assert figures["rounds"] == rounds
            assert 0.0 < figures["solve_p50_ms"] < figures["answer_p50_ms"] < figures["told_p50_ms"]
            assert 0.0 < figures["p50_ms"] <= figures["p99_ms"]
    assert found["slices_1"]["answer_p50_ms"] < found["slices_1"]["p50_ms"] < found["slices_1"]["told_p50_ms"]
    with_, without = found["shadows"]["with"], found["shadows"]["without"]
    assert found["shadow_cost"] == pytest.approx(with_["p50_ms"] / without["p50_ms"])
    assert found["quick"] is True
    assert set(found["machine"]) == MACHINE
