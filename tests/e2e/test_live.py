"""The live testbed as its users have it, in its short form: measure, train, close the loop, draw figure 10."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from microopt_testbed.live.outcome import LoopOutcome

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

COMMAND = Path(sys.executable).with_name("microopt")


def microopt(*words: str, status: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MICROOPT_")}
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measure a thinned-out grid, interrupted once, and train on it."""
    folder = tmp_path_factory.mktemp("live")
    sweep = ["testbed", "live", "collect", "--folder", str(folder), "--slots", "3", "--slot-s", "0.5"]
    sweep += ["--settle-s", "1.5", "--every", "2"]
    with subprocess.Popen([COMMAND, *sweep], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        try:
            first.wait(30)
        except subprocess.TimeoutExpired:
            first.terminate()
    before = (folder / "data.csv").read_text()
    microopt(*sweep)
    assert (folder / "data.csv").read_text().startswith(before)
    model = str(folder / "model.safetensors")
    data, config = str(folder / "data.csv"), str(folder / "train.yaml")
    microopt("train", "--data", data, "--config", config, "--out", model, "--epochs", "150")
    return folder


def test_a_sweep_that_was_interrupted_is_whole(measured):
    with (measured / "data.csv").open() as file:
        rows = list(csv.DictReader(file))
    cells = {(row["bw"], row["cpu"], row["n_users"]) for row in rows}
    assert len(cells) == 4 * 4 * 3
    assert len(rows) == 3 * len(cells)
    free = [float(row["qos"]) for row in rows if row["n_users"] == "1"]
    crowded = [float(row["qos"]) for row in rows if row["n_users"] == "5"]
    assert sum(free) > 2 * sum(crowded)


def test_the_loop_closes_on_real_traffic_and_figure_10_is_drawn(measured, tmp_path):
    # On a machine that also runs other tests an SLA may be missed; that everything took effect may not be.
    said = microopt("reproduce", "fig10", "--live", str(measured), "--quick", "--out", str(tmp_path))
    outcome = msgspec.json.decode((measured / "outcome.json").read_bytes(), type=LoopOutcome)
    assert len(outcome.pairs) == 2
    assert all(one.slots >= 30 for one in outcome.pairs)
    assert {"applied", "verified", "effective"} <= outcome.states.keys(), outcome.states
    assert 0.0 < outcome.saving_vs_peak < 1.0
    assert "fig10-live.md" in said
    assert (tmp_path / "fig10-live.png").stat().st_size > 5_000
    assert len((tmp_path / "fig10-live.csv").read_text().splitlines()) == 3


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path):
    done = subprocess.run(
        [COMMAND, "testbed", "live", "run", "--folder", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "microopt testbed live collect" in done.stderr
    done = subprocess.run([COMMAND, "reproduce", "fig4", "--live"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--live is for fig10" in done.stderr
