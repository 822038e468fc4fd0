"""`microopt train --config`: other people's columns, resources and QoS."""

import math
import random
import textwrap
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from microopt.cli import main
from microopt.errors import ConfigError
from microopt_optimizer.slice_model import model_file, train_file
from microopt_optimizer.slice_model.training import FAST, PAPER

LATENCY = """
time: when
users: ues
qos: {column: delay, metric: dl_delay, unit: ms, higher_is_better: false}
resources:
  prb: {column: share, unit: PRB}
  upf_cpu: {column: cpu, unit: millicores}
  transport_bandwidth: {column: bw, unit: Mbit/s}
settle_s: 3
training: {epochs: 3, teachers: 2, batch_size: 128, monotone: true}
"""


def latencies() -> str:
    """Return the delay of a queue at 36 settings of 20 s each, a row a second."""
    lines = ["when,note,ues,share,cpu,bw,delay"]
    settings = [(share, cpu, bw) for share in (10, 30, 50) for cpu in (500, 1000, 2000) for bw in (5, 10, 20, 40)]
    draw = random.Random(0)
    for n, (share, cpu, bw) in enumerate(setting for setting in settings for _ in range(20)):
        ues = 1 + n % 4
        delay = 5.0 + 100.0 * ues / min(share, cpu / 50.0, bw) * math.exp(draw.gauss(0.0, 0.1))
        lines.append(f"{1_700_000_000 + n},x,{ues},{share},{cpu},{bw},{delay:.3f}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "delay.safetensors"


def train(*arguments) -> Result:
    return CliRunner().invoke(main, ["train", *(str(a) for a in arguments)], env={"MICROOPT_CONFIG": None})


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_latency_with_three_resources_and_other_columns_trains_a_falling_model(written, out):
    data, config = written(latencies(), "delays.csv"), written(LATENCY, "delay.yaml")
    result = train("--data", data, "--config", config, "--out", out)
    assert result.exit_code == 0, result.output
    assert "delays.csv: 612 of 720 rows kept" in said(result)  # 36 times 3 s were not settled
    header = model_file.load(out).header
    assert header.resource_names == ("prb", "upf_cpu", "transport_bandwidth")
    assert [resource.unit for resource in header.resources] == ["PRB", "millicores", "Mbit/s"]
    assert (header.qos_metric, header.qos_unit, header.higher_is_better) == ("dl_delay", "ms", False)
    assert header.architecture.monotone == "falling"
    assert header.training["epochs"] == 3
    assert 0.0 <= header.metrics["validation"].coverage_90 <= 1.0


def test_the_table_shows_errors_and_calibration_of_each_part(written, out):
    result = train(
        "--data", written(latencies(), "delays.csv"), "--config", written(LATENCY, "delay.yaml"), "--out", out
    )
    for word in ("NLL", "MSE", "MAE", "in 50%", "in 80%", "in 90%", "PIT", "train", "validation"):
        assert word in result.output


def test_toml_says_the_same_as_yaml(written):
    toml = """
users = "ues"
[qos]
column = "delay"
metric = "dl_delay"
unit = "ms"
higher_is_better = false
[resources]
prb = {column = "share", unit = "PRB"}
[training]
members = 3
"""
    file = train_file.read(written(toml, "delay.toml"))
    assert file.columns.resources["prb"].column == "share"
    assert train_file.training(file) == msgspec.structs.replace(FAST, members=3)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(written, out):
    config = written(LATENCY.replace("epochs: 3,", "epochs: 3, seed: 7,"), "delay.yaml")
    data = written(latencies(), "delays.csv")
    for extra, epochs, seed, rate in (
        ((), 3, 7, FAST.learning_rate),
        (
            ("--epochs", 2, "--seed", 8, "--preset", "paper", "--settle-s", 0),
            *(2, 8, PAPER.learning_rate),
        ),
    ):
        result = train("--data", data, "--config", config, "--out", out, *extra)
        assert result.exit_code == 0, result.output
        assert "720 of 720 rows kept" in said(result) or not extra
        used = model_file.load(out).header.training
        assert (used["epochs"], used["seed"], used["learning_rate"]) == (epochs, seed, rate)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("users: ues", "user: ues", "unknown key 'user'; did you mean 'users'"),
        ("users: ues", "users: 5", "Expected `str`, got `int` - at `$.users`"),
        (", higher_is_better: false", "", "missing required field `higher_is_better` - at `$.qos`"),
        ("epochs: 3,", "epoch: 3,", "training: unknown key 'epoch'; did you mean 'epochs'"),
        ("epochs: 3,", "epochs: 0,", "Expected `int` >= 1 - at `$.epochs`"),
        ("settle_s: 3", "settle_s: -1", "Expected `float` >= 0.0 - at `$.settle_s`"),
        ("column: cpu", "column: bw", "column 'bw' is named twice"),
        ("prb:", "PRB!:", "matching regex"),
        ("users: ues", "users: [", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_key(written, out, before, after, message):
    config = written(LATENCY.replace(before, after), "delay.yaml")
    result = train("--data", written(latencies(), "delays.csv"), "--config", config, "--out", out)
    assert result.exit_code == 1
    assert "delay.yaml: " in said(result)
    assert message in said(result)
    assert not out.exists()


def test_the_example_of_the_documentation_is_right(written):
    page = (Path(__file__).parents[3] / "docs/slice-model.md").read_text(encoding="utf-8")
    start = page.index("    time: when")
    example = textwrap.dedent(page[start : page.index("\n\n", start)])
    file = train_file.read(written(example, "delay.yaml"))
    assert list(file.columns.resources) == ["prb", "upf_cpu"]
    assert train_file.training(file).seed == 7


def test_a_file_of_something_else_is_refused(written):
    with pytest.raises(ConfigError, match="expected users, qos and resources"):
        train_file.read(written("- a\n- b\n", "list.yaml"))
    with pytest.raises(ConfigError, match="missing required field `users`"):
        train_file.read(written("{}", "empty.yaml"))


def test_a_width_that_its_activation_cannot_halve_is_refused_at_once(written):
    odd = LATENCY.replace("epochs: 3", "activation: mixed, width: 17, epochs: 3")
    with pytest.raises(ConfigError, match="training: width 17: activation 'mixed' halves a layer"):
        train_file.training(train_file.read(written(odd, "odd.yaml")))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("ues,share", "users,share", "line 1: no column 'ues'"),
        ("1,10,500,5,", "1,ten,500,5,", "line 2, column 'share': 'ten' is not a number"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_with_its_column(written, out, before, after, message):
    data = written(latencies().replace(before, after, 1), "delays.csv")
    result = train("--data", data, "--config", written(LATENCY, "delay.yaml"), "--out", out)
    assert result.exit_code == 1
    assert f"delays.csv, {message}" in said(result)


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (lambda row: [*row[:5], "20", row[6]], "transport_bandwidth (20) is the same in all rows"),
        (lambda row: [*row[:6], "9.5"], "dl_delay is 9.5 ms in all rows: there is nothing to learn"),
        (lambda row: [*row[:2], "1", "10", "500", "5", row[6]], "all rows have the same users and resources"),
        (lambda row: [*row[:6], "nan"], "none of its 720 rows is left"),
        (lambda row: [*row[:6], "-1"], "first: line 2, column 'delay'"),
    ],
)
def test_measurements_that_say_nothing_are_refused(written, out, rewrite, message):
    header, *rows = latencies().splitlines()
    data = written("\n".join([header, *(",".join(rewrite(row.split(","))) for row in rows)]), "delays.csv")
    result = train("--data", data, "--config", written(LATENCY, "delay.yaml"), "--out", out)
    assert result.exit_code == 1
    assert message in said(result)
    assert not out.exists()


def test_the_checkpoint_is_removed_once_the_model_is_written(written, out, tmp_path):
    data, config = written(latencies(), "delays.csv"), written(LATENCY, "delay.yaml")
    kept = tmp_path / "kept" / "training"
    result = train("--data", data, "--config", config, "--out", out, "--checkpoint", kept)
    assert result.exit_code == 0, result.output
    assert not kept.exists()
    kept.write_bytes(b"something else")
    refused = train("--data", data, "--config", config, "--out", out, "--checkpoint", kept)
    assert refused.exit_code == 1
    assert "not that of a training, or damaged" in said(refused)
