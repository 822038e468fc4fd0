"""`microopt reproduce` as a researcher starts it, in its quick form and without other people's data."""

import csv
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [Path(sys.executable).parent / "microopt", "reproduce"]
pytestmark = pytest.mark.timeout(300)

QUICK = ["--emulated", "--quick", "--approaches", "microopt,peak"]
IMAGE_LIMIT = 100_000


def start(*arguments, folder, **options):
    environment = {**os.environ, "MICROOPT_DATA": str(folder / "no-data"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, **options
    )


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the folder of a run of everything; two processes share the work."""
    folder = tmp_path_factory.mktemp("reproduce")
    out, page = folder / "out", folder / "docs" / "results.md"
    run = start("all", *QUICK, "--jobs", "2", "--out", out, "--results", page, folder=folder)
    assert run.returncode == 0, run.stderr
    return folder


def test_every_figure_and_table_is_on_the_page_with_its_picture_and_the_papers_values(done):
    page = (done / "docs" / "results.md").read_text()
    for title in ("Figure 4", "Table I", "Figure 6", "Figures 5, 7 and 8", "Figure 9", "Figure 10", "At a glance"):
        assert re.search(rf"^## {title}", page, re.MULTILINE), title
    for printed in ("0.719", "1.534", "53.14 %", "20.74 %", "993.9", "0.49"):
        assert printed in page
    assert "hardly trained" in page
    assert "sweep of the emulated slice" in page
    images = re.findall(r"!\[.+?\]\((.+?)\)", page)
    assert len(images) == 8
    for image in images:
        path = done / "docs" / image
        assert path.read_bytes().startswith(b"\x89PNG")
        assert 2_000 < path.stat().st_size < IMAGE_LIMIT


def test_no_answer_is_below_the_oracles_and_each_is_judged_by_the_model(done):
    rows = lines(done / "out" / "fig6.csv")
    settings = {(row["users"], row["qos_threshold_mbps"], row["degradation_threshold"]) for row in rows}
    assert len(rows) == 3 * len(settings)
    for setting in settings:
        found = {
            row["approach"]: row
            for row in rows
            if (row["users"], row["qos_threshold_mbps"], row["degradation_threshold"]) == setting
        }
        cost = {name: float(row["normalised_allocation"]) for name, row in found.items()}
        for name in ("microopt", "peak"):
            if float(found[name]["expected_degradation"]) <= float(setting[2]):
                assert cost[name] >= cost["oracle"] * (1.0 - 2e-3)  # as coarse as the quick grid


def test_the_csv_files_hold_numbers(done):
    for name in ("fig4_curves", "fig4_errors", "table1", "fig6", "sensitivity", "fig7", "fig9", "fig10"):
        rows = lines(done / "out" / f"{name}.csv")
        assert rows, name
    for row in lines(done / "out" / "fig4_curves.csv"):
        assert math.isfinite(float(row["validation_nll"]))


def test_a_second_run_computes_nothing_and_says_the_same(done):
    outcomes = done / "out" / "outcomes.jsonl"
    before, page = outcomes.read_bytes(), (done / "out" / "results.md").read_text()
    assert start("all", *QUICK, "--jobs", "1", "--out", done / "out", folder=done).returncode == 0
    assert outcomes.read_bytes() == before
    assert (done / "out" / "results.md").read_text() == page


def test_an_interrupted_run_is_taken_up_where_it_was(done, tmp_path):
    whole = (done / "out" / "outcomes.jsonl").read_bytes().splitlines(keepends=True)
    kept = tmp_path / "out"
    kept.mkdir()
    (kept / "models").symlink_to(done / "out" / "models")
    (kept / "outcomes.jsonl").write_bytes(b"".join(whole[:-3])[:-20])  # a process killed while it wrote
    assert start("all", *QUICK, "--jobs", "1", "--out", kept, folder=done).returncode == 0
    after = (kept / "outcomes.jsonl").read_bytes().splitlines()
    assert len(after) == len(whole) + 1  # the line cut off stays, and is computed again
    assert after[: len(whole) - 4] == [line.rstrip(b"\n") for line in whole[: len(whole) - 4]]


def test_without_the_measurements_it_says_where_they_are_to_be_had(tmp_path):
    run = start("table1", "--out", tmp_path / "out", folder=tmp_path)
    assert run.returncode == 1
    for wanted in ("5G-resource-allocation-dataset", "sha256", "--data", "--emulated"):
        assert wanted in run.stderr
    assert "Traceback" not in run.stderr


def test_an_interrupt_from_the_keyboard_ends_it_without_a_traceback(tmp_path):
    environment = {**os.environ, "MICROOPT_DATA": str(tmp_path / "no-data")}
    command = [*COMMAND, "fig6", "--emulated", "--approaches", "microopt,peak", "--jobs", "2"]
    with subprocess.Popen(
        [*command, "--out", tmp_path / "out"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            started = time.monotonic()
            while not list(tmp_path.glob("out/models/*")) and time.monotonic() - started < 60.0:
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "Aborted" in errors
    assert "Traceback" not in errors
