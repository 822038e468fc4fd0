"""`microopt train`, as an operator calls it."""

import asyncio

import pytest
from click.testing import CliRunner, Result

from microopt import streams
from microopt.cli import connection, main
from microopt_optimizer.slice_model import model_file

GRID = [(u, cpu, bw) for u in (1, 2, 3) for cpu in (1000, 2000, 3000, 4000) for bw in (5, 15, 25, 35)]


def rows(header: str, second=None) -> str:
    """Return 48 cells of 20 rows each, a row a second where `second` is given."""
    lines = [header]
    for n, (users, cpu, bw) in enumerate(cell for cell in GRID for _ in range(20)):
        qos = min(bw, cpu / 100) / users + 0.1 * (n % 5)
        time = "" if second is None else f"{second + n},"
        lines.append(f"{time}{users},{cpu},{bw},{qos:.3f}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def csv_file(tmp_path):
    def write(text: str, name: str = "measured.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "models/embb.safetensors"


def train(*arguments, **environ: str) -> Result:
    words = ["train", *(str(a) for a in arguments)]
    return CliRunner().invoke(main, words, env={"MICROOPT_CONFIG": None, **environ})


def said(result: Result) -> str:
    """Return what a terminal would show, on one line."""
    return " ".join(result.output.split())


def test_what_the_testbed_measured_without_times_trains_a_model_that_can_be_loaded(tmp_path, out):
    swept = tmp_path / "sweep.csv"
    assert CliRunner().invoke(main, ["testbed", "sweep", str(swept), "--samples", "2"]).exit_code == 0
    result = train("--data", swept, "--out", out, "--epochs", "2")
    assert result.exit_code == 0, result.output
    assert "sweep.csv: no column 'time'; taken as settled, in the order of its rows" in said(result)
    assert "sweep.csv: 640 of 640 rows kept" in said(result)
    assert result.stdout == f"wrote {out}\n"
    header = model_file.load(out).header
    assert header.resource_names == ("gnb_cpu", "transport_bandwidth")
    assert [r.unit for r in header.resources] == ["millicores", "Mbit/s"]
    assert header.metrics["train"].rows + header.metrics["validation"].rows == 640


def test_what_was_measured_with_times_is_freed_of_what_had_not_settled(csv_file, out):
    timed = csv_file(rows("time,n_users,cpu,bw,qos", second=1_700_000_000))
    result = train("--data", timed, "--out", out, "--epochs", "2")
    assert result.exit_code == 0, result.output
    assert "no column 'time'" not in said(result)
    # 48 settings of 20 s each, of which the first 12 s are dropped.
    assert "measured.csv: 384 of 960 rows kept" in said(result)
    kept = train("--data", timed, "--out", out, "--epochs", "2", "--settle-s", "0")
    assert "measured.csv: 960 of 960 rows kept" in said(kept)


def test_rows_that_are_held_back_are_measured_and_may_have_no_times_either(csv_file, out):
    timed = csv_file(rows("time,n_users,cpu,bw,qos", second=0))
    test = csv_file(rows("n_users,cpu,bw,qos"), "test.csv")
    result = train("--data", timed, "--test", test, "--out", out, "--epochs", "2")
    assert result.exit_code == 0, result.output
    assert "test.csv: no column 'time'" in said(result)
    assert model_file.load(out).header.metrics["test"].rows == 960


@pytest.mark.parametrize("column", ["n_users", "cpu", "bw", "qos"])
def test_a_column_that_is_missing_is_named(csv_file, out, column):
    data = csv_file(rows("n_users,cpu,bw,qos".replace(column, "other")))
    result = train("--data", data, "--out", out)
    assert result.exit_code == 1
    assert f"measured.csv, line 1: no column {column!r}" in said(result)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "measured.csv: is empty; its first line must name the columns"),
        ("n_users,cpu,bw,qos\n", "has no rows below its header"),
        ("n_users,cpu,bw,qos\n1,1,1,good\n", "line 2, column 'qos': 'good' is not a number"),
        ("n_users,cpu,bw,qos\n1,1,1\n", "line 2: 3 values, but the header names 4"),
        ("n_users,cpu,bw,qos\n1,1,1,nan\n", "none of its 1 rows is left"),
        ("n_users,cpu,bw,qos\n1,1,1,1\n", "1 rows to train on, at least 32 are needed"),
        ("time,n_users,cpu,bw,qos\nnoon,1,1,1,1\n", "line 2, column 'time': 'noon' is not a time"),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_refused_with_line_and_column(csv_file, out, text, message):
    result = train("--data", csv_file(text), "--out", out)
    assert result.exit_code == 1
    assert message in said(result)
    assert not out.exists()


def test_a_file_that_is_not_text_is_refused(tmp_path, out):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    result = train("--data", tmp_path / "binary.csv", "--out", out)
    assert result.exit_code == 1
    assert "binary.csv: cannot be read as csv" in said(result)


def test_a_model_must_have_somewhere_to_go(csv_file):
    result = train("--data", csv_file(rows("n_users,cpu,bw,qos")))
    assert result.exit_code == 2
    assert "--out FILE, --publish NAME, or both" in said(result)


def test_a_folder_that_cannot_be_made_is_said_before_the_training(csv_file):
    data = csv_file(rows("n_users,cpu,bw,qos"))
    result = train("--data", data, "--out", data / "below/model", "--preset", "paper")
    assert result.exit_code == 1
    assert "--out" in said(result)
    assert "rows kept" not in said(result)


@pytest.mark.parametrize("name", ["eMBB", "a b", "", "a.b", "*"])
def test_a_name_that_no_slice_could_use_is_refused(csv_file, name):
    result = train("--data", csv_file(rows("n_users,cpu,bw,qos")), "--publish", name)
    assert result.exit_code == 2
    assert "--publish" in said(result)


def test_publishing_without_a_broker_says_so_before_the_training(csv_file, out, unused_port, monkeypatch):
    monkeypatch.setattr(connection, "CONNECT_WITHIN_S", 0.3)
    url = f"nats://me:hush@127.0.0.1:{unused_port}"
    data = csv_file(rows("n_users,cpu,bw,qos"))
    result = train("--data", data, "--out", out, "--publish", "embb", "--preset", "paper", NATS_URL=url)
    assert result.exit_code == 1
    assert f"no NATS server answers at nats://127.0.0.1:{unused_port}; start one with `microopt up`" in said(
        result
    )
    assert "hush" not in result.output
    assert not out.exists()


async def test_what_is_published_can_be_loaded_from_the_bus(csv_file, bus, broker):
    data = csv_file(rows("n_users,cpu,bw,qos"))
    result = await asyncio.to_thread(
        train, "--data", data, "--publish", "embb", "--epochs", "2", NATS_URL=broker.url
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("published embb, sha256 ")
    stored = (await (await bus.js.object_store(streams.MODELS)).get("embb")).data
    assert model_file.load(stored, "embb").header.data_sha256
