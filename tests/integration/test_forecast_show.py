"""`microopt forecast show`, from telemetry and forecasts on a real broker to the terminal and to files."""

import asyncio
import io
import json
import sys
from datetime import timedelta
from functools import partial

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from PIL import Image

from microopt import codec, streams
from microopt.cli import main
from microopt.messages import Band, Forecast, Interval, Traffic

SLICE = "1-000001"
HOURS = 8


async def run(url, *words, charset="utf-8", columns="80"):
    environ = {"NATS_URL": url, "MICROOPT_CONFIG": None, "MICROOPT_NATS_URL": None, "COLUMNS": columns}
    runner = CliRunner(charset=charset)
    return await asyncio.to_thread(runner.invoke, main, ["forecast", "show", *map(str, words)], env=environ)


@pytest.fixture
def show(broker):
    """Run `microopt forecast show` against the test's broker."""
    return partial(run, broker.url)


@pytest.fixture
async def spec(bus, make_slice):
    found = make_slice(SLICE, interval_s=3600.0, slot_s=600.0)
    await bus.put_spec(streams.SLICES, SLICE, found)
    return found


@pytest.fixture
def slots(telemetry):
    """Return eight hours of slots, the third without users, the sixth with more than was expected."""
    zero = telemetry().time
    users = [10.0 * (hour + 1) + (20.0 if hour == 5 else 0.0) for hour in range(HOURS) for _ in range(6)]
    return [
        telemetry(time=zero + n * timedelta(minutes=10), slot_s=600.0, users=None if n // 6 == 2 else count)
        for n, count in enumerate(users)
    ]


@pytest.fixture
def forecasts(telemetry):
    """Return the forecasts of the same hours, and of the next."""
    zero = telemetry().time
    return [
        Forecast(
            slice=SLICE,
            interval=Interval(zero + timedelta(hours=hour), 3600.0),
            traffic=Traffic((10.0 * hour + 11.0,), (1.0,)),
            model="ces" if hour < 4 else "ridge",
            made_at=zero + timedelta(hours=hour, minutes=-10),
            bands=tuple(
                Band(
                    of="interval", coverage=coverage, lower=10.0 * hour + 8.0 - wide,
                    upper=10.0 * hour + 14.0 + wide, realised=coverage, judged=100 + hour,
                )
                for coverage, wide in ((0.8, 0.0), (0.9, 1.0), (0.95, 2.0))
            ),
            raised_from=15.0 if hour == 6 else None,
        )
        for hour in range(HOURS + 1)
    ]  # fmt: skip


@pytest.fixture
async def stored(bus, spec, slots, forecasts):
    await asyncio.gather(*(bus.publish(slot) for slot in slots))
    for forecast in forecasts:
        await bus.publish(forecast)


async def test_the_terminal_shows_what_was_expected_and_what_came(stored, show):
    done = await show(SLICE)
    assert done.exit_code == 0, done.output
    found = done.output.splitlines()
    assert found[0] == f"slice {SLICE}: intervals of 1 h, slots of 10 min, model ridge (auto)"
    assert found[3].split()[:3] == ["UTC", "observed", "expected"]
    rows = [line for line in found[5:] if ":00 " in line]
    assert len(rows) == HOURS + 1
    assert rows[0].startswith("Jan 01 00:00      10.0      11.0")
    assert "gap" in rows[2]
    assert [place for place, line in enumerate(rows) if line.endswith("  above")] == [5]
    assert rows[6].endswith("  raised")
    assert "── ridge from here on, before: ces" in "".join(found)
    assert "held for the mean        80.0 %   90.0 %   95.0 %   of the last 108 intervals" in found
    assert "of those shown, inside the 90 % band: 6 of 7" in found
    assert any(line.startswith("! the newest forecast is of an interval that ended") for line in found)
    assert max(map(len, found)) <= 110  # notes are sentences
    assert max(map(len, rows)) <= 80


async def test_another_encoding_gets_ascii(stored, show):
    done = await show(SLICE, charset="latin-1")
    assert done.exit_code == 0, done.output
    assert done.stdout.isascii()


async def test_last_and_from_choose_the_intervals(stored, show):
    def starts(done):
        assert done.exit_code == 0, done.output
        return [row["start"] for row in json.loads(done.stdout)["rows"]]

    assert starts(await show(SLICE, "--json", "--last", 2)) == ["2026-01-01T07:00:00Z", "2026-01-01T08:00:00Z"]
    assert len(starts(await show(SLICE, "--json", "--from", "2026-01-01T05:30:00Z"))) == 4
    refused = await show(SLICE, "--from", "2026-02-01")
    assert "nothing is known of later than 2026-01-01 09:00:00 UTC" in refused.output
    assert "at most 1,000" in (await show(SLICE, "--from", "2025-01-01")).output
    assert (await show(SLICE, "--from", "2026-01-01", "--last", 3)).exit_code == 2


async def test_json_has_the_same_rows(stored, show, forecasts):
    done = await show(SLICE, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    rows = report["rows"]
    assert [row["observed"] for row in rows] == [10.0, 20.0, None, 40.0, 50.0, 80.0, 70.0, 80.0, None]
    assert [row["expected"] for row in rows] == [forecast.traffic.mean for forecast in forecasts]
    assert [row["outcome"] for row in rows[:6]] == ["inside", "inside", None, "inside", "inside", "above"]
    assert report["summary"]["judged"] == 7
    assert report["model"] == "ridge"
    assert {band["coverage"] for band in rows[0]["bands"]} == {0.8, 0.9, 0.95}


@pytest.mark.parametrize("ending", ["png", "svg"])
async def test_a_picture_is_written(stored, show, tmp_path, ending):
    out = tmp_path / f"slice.{ending}"
    done = await show(SLICE, "--json", "--out", out)
    assert done.exit_code == 0, done.output
    assert f"{out}: 9 intervals" in done.stderr
    json.loads(done.stdout)
    if ending == "svg":
        assert b"<svg" in out.read_bytes()[:500]
    else:
        image = Image.open(io.BytesIO(out.read_bytes())).convert("RGB")
        colours = {colour for _, colour in image.getcolors(1 << 20)}
        assert image.width > 1000
        assert {(0, 114, 178), (213, 94, 0), (255, 255, 255)} <= colours  # expected, outside, paper


async def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_read(show, tmp_path):
    assert "call it day.png or day.svg" in (await show(SLICE, "--out", tmp_path / "day.gif")).output
    assert "there is no folder" in (await show(SLICE, "--out", tmp_path / "none" / "day.png")).output


async def test_a_picture_without_matplotlib_names_the_remedy(stored, show, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "microopt_forecaster.show.picture", None)
    done = await show(SLICE, "--out", tmp_path / "day.png")
    assert done.exit_code == 1
    assert "pip install 'microopt[testbed]'" in done.output


async def test_what_is_not_there_is_said_with_the_remedy(bus, spec, show, slots, forecasts):
    assert f"unknown slice '2'; slices: {SLICE}" in (await show("2")).output
    assert "no telemetry to make one of" in (await show(SLICE)).output

    await bus.publish(slots[0])
    done = await show(SLICE)
    assert done.exit_code == 1
    assert "one needs telemetry of three intervals of 3600 s" in done.output
    assert "the newest slot is 2026-01-01 00:00:00 UTC" in done.output

    start = forecasts[0].interval.start
    await bus.publish(replace(forecasts[0], interval=Interval(start, 60.0)))
    assert "the 1 that are stored are for others, of a former spec" in (await show(SLICE)).output


async def test_forecasts_without_telemetry_are_drawn_and_that_is_said(bus, spec, show, forecasts):
    await bus.publish(forecasts[0])
    done = await show(SLICE)
    assert done.exit_code == 0, done.output
    assert " gap " in done.output
    assert "! no telemetry tells users in these intervals" in done.output


async def test_what_cannot_be_read_is_counted_and_stops_nothing(bus, stored, show, telemetry):
    await bus.js.publish(f"microopt.telemetry.{SLICE}", b"{")
    await bus.js.publish(f"microopt.forecast.{SLICE}", b"[]")
    await bus.publish(telemetry(time=telemetry().time + timedelta(hours=3, minutes=1), slot_s=60.0))
    done = await show(SLICE)
    assert done.exit_code == 0, done.output
    assert "! left out, as they cannot be read: stored messages, 2" in done.output
    assert "! left out, as of another length than the spec's: slots, 1" in done.output


async def test_of_two_forecasts_of_an_interval_the_later_word_is_shown(bus, stored, show, forecasts):
    again = replace(forecasts[-1], traffic=Traffic((99.0,), (1.0,)))
    await bus.js.publish(f"microopt.forecast.{SLICE}", codec.encode(again))
    assert json.loads((await show(SLICE, "--json", "--last", 1)).stdout)["rows"][0]["expected"] == 99.0
