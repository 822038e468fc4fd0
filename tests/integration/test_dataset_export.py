"""`microopt dataset export`, from a real broker to the trainer's own reader."""

import asyncio
import csv
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from microopt import codec, streams, subjects
from microopt.broker import find_executable, free_port, is_listening
from microopt.bus import Bus
from microopt.cli import main
from microopt.settings import NatsSettings
from microopt.testing import eventually
from microopt_optimizer.slice_model import train_file
from microopt_optimizer.slice_model.dataset_csv import read_csv

SLICE = "1-000001"
A, B = {"gnb_cpu": 1000.0, "transport_bandwidth": 20.0}, {"gnb_cpu": 2000.0, "transport_bandwidth": 20.0}
WHOLE = ("--slice", SLICE, "--from", "2026-01-01", "--to", "2026-01-03")

MANUAL = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
TRAIN_YAML = dedent("    time: time\n" + MANUAL.partition("\n    time: time\n")[2].partition("\n\n")[0])


async def run(url, *words):
    environ = {"NATS_URL": url, "MICROOPT_CONFIG": None, "MICROOPT_NATS_URL": None}
    return await asyncio.to_thread(CliRunner().invoke, main, [str(word) for word in words], env=environ)


@pytest.fixture
def microopt(broker):
    """Run a command of `microopt` against the test's broker."""
    return partial(run, broker.url)


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def publish(bus, *slots):
    await asyncio.gather(*(bus.publish(slot) for slot in slots))


async def test_an_export_has_a_row_a_slot_in_the_order_of_time(bus, microopt, telemetry, tmp_path):
    out = tmp_path / "out.csv"
    live = [telemetry(n, allocation=A, usage={"gnb_cpu": 900.5}, pressure={"gnb_cpu": 0.25}) for n in range(3, 6)]
    history = [telemetry(n, users=n + 0.1, qos=None, quality="partial", source="import") for n in range(2)]
    for slot in (*live, *history):
        await bus.publish(slot)
    await bus.publish(telemetry(0, slice="2"))
    done = await microopt("dataset", "export", *WHOLE, out)
    assert done.exit_code == 0, done.output
    assert "6 rows from 2026-01-01 00:00:00 to 2026-01-01 00:00:05 UTC" in done.output
    assert "3 complete, 2 partial, 1 missing" in done.output
    assert out.read_text().splitlines() == [
        "time,slot_s,users,qos,gnb_cpu,transport_bandwidth,usage.gnb_cpu,pressure.gnb_cpu,quality,transient",
        "2026-01-01T00:00:00.000Z,1.0,0.1,,,,,,partial,true",
        "2026-01-01T00:00:01.000Z,1.0,1.1,,,,,,partial,true",
        "2026-01-01T00:00:02.000Z,1.0,,,,,,,missing,true",
        "2026-01-01T00:00:03.000Z,1.0,3.0,4.5,1000.0,20.0,900.5,0.25,complete,true",
        "2026-01-01T00:00:04.000Z,1.0,3.0,4.5,1000.0,20.0,900.5,0.25,complete,true",
        "2026-01-01T00:00:05.000Z,1.0,3.0,4.5,1000.0,20.0,900.5,0.25,complete,true",
    ]


async def test_the_latest_word_on_a_slot_wins_but_missing_takes_nothing_back(bus, microopt, telemetry, tmp_path):
    out = tmp_path / "out.csv"
    words = [
        telemetry(0, users=1.0),
        telemetry(0, users=2.0),
        telemetry(1, users=5.0),
        telemetry(1, users=None, qos=None, quality="missing", allocation=A),
        telemetry(2, users=None, qos=None, quality="missing", allocation=A),
        telemetry(2, users=6.0),
    ]
    for number, word in enumerate(words):  # as replicas say them when the server has forgotten the first id
        await bus.js.publish(subjects.of(word), codec.encode(word), headers={"Nats-Msg-Id": str(number)})
    await microopt("dataset", "export", *WHOLE, out)
    assert [row["users"] for row in rows_of(out)] == ["2.0", "5.0", "6.0"]


async def test_the_window_includes_its_start_and_not_its_end(bus, microopt, telemetry, tmp_path):
    out = tmp_path / "out.csv"
    await publish(bus, *(telemetry(n, allocation=A) for n in range(60)))
    window = ("--from", "2026-01-01T00:00:20Z", "--to", "2026-01-01T01:00:30+01:00")
    done = await microopt("dataset", "export", "--slice", SLICE, *window, out)
    assert done.exit_code == 0, done.output
    times = [row["time"] for row in rows_of(out)]
    assert (len(times), times[0], times[-1]) == (10, "2026-01-01T00:00:20.000Z", "2026-01-01T00:00:29.000Z")
    assert {row["transient"] for row in rows_of(out)} == {"false"}  # what came before is known


async def test_relative_times_are_taken_from_now(bus, microopt, telemetry, tmp_path):
    out = tmp_path / "out.csv"
    recent = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    await publish(bus, telemetry(time=recent), telemetry(time=recent - timedelta(hours=2)))
    assert (await microopt("dataset", "export", "--slice", SLICE, "--from", "-1h", out)).exit_code == 0
    assert len(rows_of(out)) == 1


async def test_settled_rows_are_those_that_the_trainer_would_keep(bus, microopt, telemetry, tmp_path):
    """The file is read by the trainer's own reader, as the configuration in docs/datasets.md says."""
    everything, settled, config = tmp_path / "all.csv", tmp_path / "settled.csv", tmp_path / "train.yaml"
    allocations = [A] * 40 + [B] * 30 + [A] * 5 + [B] * 30
    silent = {20, 21, *range(50, 65)}
    await publish(
        bus,
        *(
            telemetry(n, users=1.0 + n % 4, qos=n / 7, allocation=allocation)
            for n, allocation in enumerate(allocations)
            if n not in silent
        ),
    )
    assert (await microopt("dataset", "export", *WHOLE, everything)).exit_code == 0
    assert (await microopt("dataset", "export", *WHOLE, "--settled-only", settled)).exit_code == 0
    config.write_text(TRAIN_YAML)
    file = train_file.read(config)
    columns = file.columns
    whole, dropped = read_csv(everything, columns, settle_s=12.0)
    ready, report = read_csv(settled, columns, settle_s=file.settle_s)
    assert (dropped.rows_read, dropped.invalid) == (105, 17)
    assert (report.invalid, report.unsettled, report.duplicates) == (0, 0, 0)
    assert ready.resource_names == ("gnb_cpu", "transport_bandwidth")
    for field in ("time_s", "users", "resources", "qos"):
        assert getattr(ready, field).tolist() == getattr(whole, field).tolist()
    assert 0 < report.kept < 88


async def test_complete_only_leaves_out_what_is_missing_or_partial(bus, microopt, telemetry, tmp_path):
    out = tmp_path / "out.csv"
    await publish(bus, telemetry(0), telemetry(1, qos=None, quality="partial"), telemetry(5))
    done = await microopt("dataset", "export", *WHOLE, "--complete-only", out)
    assert "2 rows" in done.output
    assert [row["quality"] for row in rows_of(out)] == ["complete", "complete"]


async def test_parquet_has_the_same_rows_with_types(bus, microopt, telemetry, tmp_path):
    import pyarrow.parquet as parquet

    await publish(bus, *(telemetry(n, allocation=A) for n in (0, 1, 3)))
    assert (await microopt("dataset", "export", *WHOLE, tmp_path / "out.csv")).exit_code == 0
    assert (await microopt("dataset", "export", *WHOLE, tmp_path / "out.parquet")).exit_code == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert [str(field.type) for field in table.schema] == [
        *("timestamp[ms, tz=UTC]", "double", "double", "double", "double", "double", "string", "bool")
    ]
    texts = rows_of(tmp_path / "out.csv")
    assert table.column_names == list(texts[0])
    for row, text in zip(table.to_pylist(), texts, strict=True):
        assert row["time"] == datetime.fromisoformat(text["time"])
        assert [row[name] for name in ("users", "gnb_cpu")] == [
            float(text[name]) if text[name] else None for name in ("users", "gnb_cpu")
        ]
        assert (row["quality"], str(row["transient"]).lower()) == (text["quality"], text["transient"])


async def test_a_message_that_cannot_be_read_stops_nothing_and_is_told(bus, microopt, telemetry, tmp_path):
    out = tmp_path / "out.csv"
    await bus.js.publish(f"microopt.telemetry.{SLICE}", b'{"type": "microopt.telemetry.v1", "users": NaN}')
    await bus.js.publish(f"microopt.telemetry.{SLICE}", codec.encode(telemetry(0, slice="2")))
    await bus.publish(telemetry(1))
    done = await microopt("dataset", "export", *WHOLE, out)
    assert done.exit_code == 0
    assert "2 of 3 stored messages cannot be read and were left out" in done.output
    assert len(rows_of(out)) == 1


async def test_nothing_is_written_where_there_is_nothing(bus, microopt, telemetry, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("kept")
    await bus.publish(telemetry(0, users=None, qos=None, quality="missing"))
    none = await microopt("dataset", "export", "--slice", "2", "--from", "-1h", out)
    assert none.exit_code == 1
    assert "no telemetry of slice 2 from" in none.output
    silent = await microopt("dataset", "export", *WHOLE, out)
    assert silent.exit_code == 1
    assert "no slot is left" in silent.output
    assert out.read_text() == "kept"
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("name", ["out.txt", "out", "nowhere/out.csv"])
async def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(name, microopt, tmp_path):
    done = await microopt("dataset", "export", *WHOLE, tmp_path / name)
    assert done.exit_code == 1
    assert "ends in .csv or .parquet" in done.output or "there is no folder" in done.output


@pytest.fixture
async def quick_bus(tmp_path):
    """Connect to a nats-server as most are set: it does not wait for the disk after each message."""
    port, store = free_port(), tmp_path / "quick"
    server = await asyncio.create_subprocess_exec(
        find_executable(),
        "-js",
        "-sd",
        store,
        "-a",
        "127.0.0.1",
        "-p",
        str(port),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: is_listening("127.0.0.1", port))
        settings = NatsSettings(url=f"nats://127.0.0.1:{port}")
        async with await Bus.connect(settings, "test", within_s=10) as connection:
            await streams.provision(connection.js)
            yield connection
    finally:
        server.terminate()
        await server.wait()


async def test_a_hundred_thousand_slots_are_exported(quick_bus, telemetry, tmp_path):
    out, count = tmp_path / "out.csv", 100_000
    for n in range(count):  # without an answer to each, which would take most of the test's time
        slot = telemetry(n, allocation=A)
        await quick_bus.nc.publish(subjects.of(slot), codec.encode(slot))
        if n % 1000 == 0:
            await quick_bus.nc.flush()

    async def stored():
        return (await quick_bus.js.stream_info(streams.TELEMETRY)).state.messages == count

    await eventually(stored)
    done = await run(quick_bus.nc.connected_url.geturl(), "dataset", "export", *WHOLE, out)
    assert f"{count:,} rows" in done.output
    with out.open() as file:
        assert sum(1 for _ in file) == count + 1
