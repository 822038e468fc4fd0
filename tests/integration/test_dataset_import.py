"""`microopt dataset import`, with a real broker: what comes in, what is refused, and the way back out."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from click.testing import CliRunner

from microopt import codec, streams
from microopt.cli import main
from microopt.messages import Telemetry
from microopt.specs import Sla

SLICE, OTHER = "1-000001", "2"
A, B = {"gnb_cpu": 1000.0, "transport_bandwidth": 20.0}, {"gnb_cpu": 2000.0, "transport_bandwidth": 20.0}
WINDOW = ("--from", "2026-01-01", "--to", "2026-01-03")


async def run(url, *words):
    environ = {"NATS_URL": url, "MICROOPT_CONFIG": None, "MICROOPT_NATS_URL": None}
    return await asyncio.to_thread(CliRunner().invoke, main, [str(word) for word in words], env=environ)


@pytest.fixture
def microopt(broker):
    """Run `microopt dataset` against the test's broker."""
    return partial(run, broker.url, "dataset")


@pytest.fixture
async def slices(bus, make_slice):
    """Put two slices in force, with slots of a second."""
    for name in (SLICE, OTHER):
        await bus.put_spec(streams.SLICES, name, make_slice(name, slot_s=1.0))


async def stored(bus, slice_=SLICE):
    """Return the telemetry of a slice in the order of the stream."""
    last = (await bus.js.stream_info(streams.TELEMETRY)).state.last_seq
    found = [await bus.js.get_msg(streams.TELEMETRY, sequence) for sequence in range(1, last + 1)]
    slots = [codec.decode(message.data, Telemetry, origin="test") for message in found]
    return [slot for slot in slots if slot.slice == slice_]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
async def test_what_was_exported_and_imported_is_exported_the_same(
    suffix, bus, slices, microopt, telemetry, tmp_path
):
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    unknown = {"users": None, "qos": None, "quality": "missing"}
    slots = [telemetry(n, users=n / 3, qos=n / 7, allocation=A, usage={"gnb_cpu": n / 9}) for n in range(30)]
    slots += [telemetry(n, allocation=B, pressure={"gnb_cpu": 0.5}) for n in range(32, 50)]
    slots += [telemetry(n, allocation=B, **unknown) for n in range(50, 55)]
    slots += [telemetry(n, **unknown) for n in range(55, 60)]
    slots += [telemetry(n, qos=None, quality="partial", throttled={"gnb_cpu": 1.0}) for n in range(70, 80)]
    for slot in slots:
        await bus.publish(slot)
    assert (await microopt("export", "--slice", SLICE, *WINDOW, first)).exit_code == 0
    done = await microopt("import", "--slice", OTHER, first)
    assert done.exit_code == 0, done.output
    assert "80 rows: 63 slots imported, 0 were there already, 17 rows skipped" in done.output
    assert "17 empty, first" in done.output
    assert (await microopt("export", "--slice", OTHER, *WINDOW, second)).exit_code == 0
    assert second.read_bytes() == first.read_bytes()
    assert {slot.source for slot in await stored(bus, OTHER)} == {"import"}


async def test_importing_twice_changes_nothing(bus, slices, microopt, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("time,users\n" + "".join(f"2026-01-01T00:00:{n:02}Z,{n}\n" for n in range(60)))
    first = await microopt("import", "--slice", SLICE, path)
    assert "60 rows: 60 slots imported, 0 were there already, 0 rows skipped" in first.output
    before = (await bus.js.stream_info(streams.TELEMETRY)).state.last_seq
    again = await microopt("import", "--slice", SLICE, path)
    assert again.exit_code == 0
    assert "60 rows: 0 slots imported, 60 were there already, 0 rows skipped" in again.output
    assert (await bus.js.stream_info(streams.TELEMETRY)).state.last_seq == before


async def test_slots_whose_ids_the_server_has_forgotten_are_not_imported_again(
    bus, slices, microopt, telemetry, tmp_path
):
    path = tmp_path / "history.csv"
    path.write_text("time,users\n" + "".join(f"2026-01-01T00:00:{n:02}Z,{n}\n" for n in range(60)))
    for n in (0, 1, 30, 59):
        await bus.js.publish(f"microopt.telemetry.{SLICE}", codec.encode(telemetry(n, users=99.0)))  # without id
    done = await microopt("import", "--slice", SLICE, path)
    assert "60 rows: 56 slots imported, 4 were there already, 0 rows skipped" in done.output
    found = await stored(bus)
    assert len({slot.time for slot in found}) == len(found) == 60


async def test_what_was_measured_is_not_replaced_but_what_was_missing_is_filled(
    bus, slices, microopt, telemetry, tmp_path
):
    path = tmp_path / "history.csv"
    await bus.publish(telemetry(0, users=9.0))
    silent = telemetry(1, users=None, qos=None, quality="missing")
    # Under another id: within two minutes the server would take what fills the gap for the same fact again.
    await bus.js.publish(f"microopt.telemetry.{SLICE}", codec.encode(silent))
    path.write_text("time,users\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:01Z,2\n2026-01-01T00:00:02Z,3\n")
    done = await microopt("import", "--slice", SLICE, path)
    assert "3 rows: 2 slots imported, 1 were there already" in done.output
    assert [slot.users for slot in await stored(bus)] == [9.0, None, 2.0, 3.0]


async def test_bad_rows_are_counted_by_reason_shown_and_skipped(bus, slices, microopt, tmp_path):
    path = tmp_path / "history.csv"
    rows = ["0,1,1", "1,-1,1", "2,1,nan", "3,1,x", "3,1", "4,1,1", "4,2,2", "2,1,1", "5.5,1,1", "6,,", "7,1,1"]
    path.write_text("t,ues,thpt\n" + "".join(f"176722560{row}\n" for row in [*rows, "8,-2,1"]))
    done = await microopt(
        "import", "--slice", SLICE, "--time-column", "t", "--users-column", "ues", "--qos-column", "thpt", path
    )
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "12 rows: 3 slots imported, 0 were there already, 9 rows skipped"
    assert "  2 negative, first line 3: column 'ues': -1" in lines
    assert "  2 not_a_number, first line 4: column 'thpt': 'nan'" in lines
    assert "  1 wrong_length, first line 6: more or fewer values than columns" in lines
    for reason in ("duplicate", "unsorted", "off_grid", "empty"):
        assert [line for line in lines if line.startswith(f"  1 {reason}, first line ")]
    assert [slot.time.second for slot in await stored(bus)] == [0, 4, 7]


async def test_nothing_imported_is_exit_status_1(slices, microopt, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("time,users\n2026-01-01 00:00:00,1\n2026-01-01 00:00:01,2\n")
    done = await microopt("import", "--slice", SLICE, path)
    assert done.exit_code == 1
    assert (
        "2 no_zone, first line 2: 2026-01-01 00:00:00 names no zone; say --zone, such as --zone UTC" in done.output
    )
    assert "nothing could be imported" in done.output
    assert (await microopt("import", "--slice", SLICE, "--zone", "UTC", path)).exit_code == 0


async def test_a_file_of_other_slots_is_refused_unless_it_only_lacks_rows(bus, slices, microopt, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("time,users\n" + "".join(f"{1767225600 + 10 * n},1\n" for n in range(5)))
    refused = await microopt("import", "--slice", SLICE, path)
    assert refused.exit_code == 1
    assert "usually 10 s apart, but slice 1-000001 has slots of 1 s" in refused.output
    assert "say --slot-s 1" in refused.output
    assert (
        "--slot-s says slots of 10 s" in (await microopt("import", "--slice", SLICE, "--slot-s", 10, path)).output
    )
    assert await stored(bus) == []
    assert "5 slots imported" in (await microopt("import", "--slice", SLICE, "--slot-s", 1, path)).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--slice", "3"), "unknown slice 3; slices: 1-000001, 2"),
        (("--time-column", "t"), "no column 't' among 'time', 'users', 'cpu'"),
        (("--users-column", "ues"), "no column 'ues' among"),
        (
            ("--resource", "prb=cpu"),
            "--resource prb: slice 1-000001 has none called so, but gnb_cpu, transport_bandwidth",
        ),
        (("--resource", "gnb_cpu"), "write NAME=COLUMN"),
        (("--resource", "gnb_cpu=share"), "no column 'share' among"),
        (("--zone", "Mars/Base"), "write UTC, or a zone such as Europe/Rome"),
    ],
)
async def test_what_does_not_fit_is_refused_with_the_remedy(words, said, slices, microopt, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("time,users,cpu\n1767225600,1,1000\n")
    done = await microopt("import", "--slice", SLICE, *words, path)
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())


async def test_columns_and_units_of_another_tool_are_mapped(bus, slices, microopt, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("when;ues;bps;cpu;note\r\n1767225600;3;4.5e6;1000;x\r\n1767225601;;;2000;y\r\n")
    words = ["--time-column", "when", "--users-column", "ues", "--qos-column", "bps", "--qos-scale", "1e-6"]
    done = await microopt("import", "--slice", SLICE, *words, "--resource", "gnb_cpu=cpu", path)
    assert "columns that were not read: 'note'" in done.output
    [first, second] = await stored(bus)
    assert (first.users, first.qos, first.allocation) == (3.0, pytest.approx(4.5), {"gnb_cpu": 1000.0})
    assert (second.quality, second.allocation) == ("missing", {"gnb_cpu": 2000.0})


async def test_traffic_alone_is_a_history_too(bus, microopt, make_slice, tmp_path):
    """As the Milan traces have it: an activity for each ten minutes, and times without a zone."""
    path = tmp_path / "square.csv"
    spec = make_slice(slot_s=600.0, interval_s=3600.0, sla=Sla(qos_threshold=4.0, degradation_threshold=0.1))
    await bus.put_spec(streams.SLICES, SLICE, spec)
    start = datetime(2013, 10, 31, 23, tzinfo=UTC)
    times = [start + n * timedelta(minutes=10) for n in range(200)]
    path.write_text(
        "square_id,time_ms,internet,time\n"
        + "".join(
            f"5161,{t.timestamp() * 1000:.0f},{n + 0.5},{t:%Y-%m-%d %H:%M:%S}\n" for n, t in enumerate(times)
        )
    )
    done = await microopt("import", "--slice", SLICE, "--users-column", "internet", "--zone", "UTC", path)
    assert done.exit_code == 0, done.output
    assert "200 slots imported" in done.output
    found = await stored(bus)
    assert [slot.time for slot in found] == times
    assert {(slot.quality, slot.slot_s) for slot in found} == {("partial", 600.0)}


async def test_thousands_of_rows_are_all_imported_once(bus, slices, microopt, tmp_path):
    path, out, count = tmp_path / "history.csv", tmp_path / "out.csv", 5_000
    path.write_text("time,users\n" + "".join(f"{1767225600 + n},{n}\n" for n in range(count)))
    done = await microopt("import", "--slice", SLICE, path)
    assert f"{count:,} slots imported, 0 were there already" in done.output
    assert (await bus.js.stream_info(streams.TELEMETRY)).state.messages == count
    assert (await microopt("export", "--slice", SLICE, *WINDOW, out)).exit_code == 0
    users = [line.split(",")[2] for line in out.read_text().splitlines()[1:]]
    assert users == [f"{n}.0" for n in range(count)]
