from datetime import UTC, datetime, timedelta
from textwrap import dedent

import click
import pytest
from msgspec.structs import replace

from microopt.messages import Band
from microopt_forecaster.show.drawing import ASCII, UTF8, draw, signs_for
from microopt_forecaster.show.rows import Report, Row, Summary
from microopt_forecaster.show.scale import scale

START = datetime(2026, 1, 31, 22, tzinfo=UTC)


def band(coverage, lower, upper, of="interval", realised=None, judged=0):
    return Band(of=of, coverage=coverage, lower=lower, upper=upper, realised=realised, judged=judged)


def row(hour, observed=None, expected=None, lower=None, upper=None, **changes):
    fields = {
        "start": START + timedelta(hours=hour),
        "state": "over",
        "known_slots": 6,
        "observed": observed,
        "expected": expected,
        "model": None if expected is None else "ces",
        "bands": () if lower is None else (band(0.8, 0.0, 99.0), band(0.9, lower, upper)),
    }
    return Row(**{**fields, **changes})


@pytest.fixture
def report():
    claims = ((0.8, 0.791), (0.9, 0.902), (0.95, None))
    return Report(
        slice="1-000001",
        interval_s=3600.0,
        slot_s=600.0,
        slots=6,
        forecast_model="auto",
        model="ridge",
        made_at=START,
        bands=tuple(band(c, 0.0, 1.0, of, r, 336) for of in ("slot", "interval") for c, r in claims),
        rows=(
            row(0, 40.0, 42.0, 30.0, 50.0, outcome="inside"),
            row(1, 80.0, 50.0, 40.0, 60.0, outcome="above"),
            row(2, None, 82.0, 45.0, 65.0, raised_from=55.0),
            row(3, 30.0),
            row(4, 10.0, 40.0, 30.0, 50.0, outcome="below", model="ridge"),
            row(5, 55.0, 50.0, 40.0, 60.0, model="ridge", state="running"),
            row(6, None, 60.0, 48.0, 75.0, model="ridge", state="coming"),
        ),
        summary=Summary(judged=3, inside=1, mean_absolute_error=20.667, relative_error=0.4769),
        notes=("something is odd",),
    )


def drawn(report, width, signs=UTF8):
    return [click.unstyle(line) for line in draw(report, width, signs)]


def lines(text):
    return dedent(text).strip("\n").splitlines()


def test_a_terminal_of_80_columns(report):
    assert drawn(report, 80) == lines("""
    slice 1-000001: intervals of 1 h, slots of 10 min, model ridge (auto)
    ░ 90 % band of the mean  │ expected  ● observed  ✗ outside the band

    UTC           observed  expected  0       20      40     60      80
                                      ┼───────┼───────┼──────┼───────┼─
    Jan 31 22:00      40.0      42.0  ·       ·   ░░░░●░░░░  ·       ·
           23:00      80.0      50.0  ·       ·       ░░░░│░░░       ✗   above
    Feb 01 00:00       gap      82.0  ·       ·       · ░░░░░░░░     ·│  raised
           01:00      30.0         -  ·       ·   ●   ·      ·       ·   no forecast
                                      ── ridge from here on, before: ces
           02:00      10.0      40.0  ·   ✗   ·   ░░░░│░░░░  ·       ·   below
           03:00      55.0      50.0  ·       ·       ░░░░│○░░       ·   so far
           04:00                60.0  ·       ·       ·  ░░░░│░░░░░░ ·   to come

    claimed                    80 %     90 %     95 %
    held for the mean        79.1 %   90.2 %        -   of the last 336 intervals
    held for slots           79.1 %   90.2 %        -   of the last 336 intervals
    of those shown, inside the 90 % band: 1 of 3
    mean absolute error 20.7 users, 47.7 % of those observed
    ! something is odd
    """)


def test_a_narrow_terminal_has_short_bars_and_all_numbers(report):
    assert drawn(report, 64)[3:13] == lines("""
    UTC           observed  expected  0         50
                                      ┼─────────┼──────
    Jan 31 22:00      40.0      42.0  ·     ░░●░░
           23:00      80.0      50.0  ·       ░░│░░   ✗  above
    Feb 01 00:00       gap      82.0  ·        ░░░░░  │  raised
           01:00      30.0         -  ·     ●   ·        no forecast
                                      ── ridge from here on, before: ces
           02:00      10.0      40.0  · ✗   ░░│░░        below
           03:00      55.0      50.0  ·       ░░│○░      so far
           04:00                60.0  ·        ░░░│░░░   to come
    """)


def test_ascii_where_the_terminal_knows_nothing_else(report):
    found = drawn(report, 64, ASCII)
    assert all(line.isascii() for line in found)
    assert found[1:8] == lines("""
    = 90 % band of the mean  | expected  o observed  X outside the band

    UTC           observed  expected  0         50
                                      +---------+------
    Jan 31 22:00      40.0      42.0  .     ==o==
           23:00      80.0      50.0  .       ==|==   X  above
    Feb 01 00:00       gap      82.0  .        =====  |  raised
    """)


@pytest.mark.parametrize(
    ("encoding", "signs"), [("utf-8", UTF8), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("odd", ASCII)]
)
def test_signs_follow_the_encoding(encoding, signs):
    assert signs_for(encoding) == signs


@pytest.mark.parametrize("width", [64, 80, 100, 140, 200])
@pytest.mark.parametrize("users", [0.0, 0.003, 1.0, 12_345.0, 9e9])
def test_no_line_is_wider_than_the_terminal(report, width, users):
    wide = replace(report, rows=(row(0, users, users, users, users), row(1, 0.7 * users), *report.rows[2:3]))
    found = drawn(wide, width)
    table = found[3 : found.index("", 3)]
    assert len(table) == 5
    assert max(map(len, table if width < 80 else found)) <= max(width, 69 if users > 1e9 else 0)


def test_colours_mark_what_is_outside(report):
    assert click.style("✗", fg="red") in "".join(draw(report, 80))


def test_short_intervals_have_seconds(report):
    quick = replace(report, interval_s=0.5, slot_s=0.1, rows=(row(0, 1.0, 1.0), row(0.5, 1.0, 1.0)))
    found = drawn(quick, 80)
    assert "intervals of 0.5 s, slots of 0.1 s" in found[0]
    assert found[5].startswith("Jan 31 22:00:00.000  ")


def test_a_model_with_an_odd_name_cannot_speak_to_the_terminal(report):
    odd = replace(report, model="\x1b[2Jé" + 99 * "x", notes=())
    found = drawn(odd, 80)
    assert "model ?[2J?xxx" in found[0]
    assert len(found[0]) < 120


def test_forecasts_without_bands_are_drawn_without(report):
    plain = replace(report, bands=(), rows=(row(0, 40.0, 42.0),))
    assert not any("░" in line for line in drawn(plain, 80)[3:])


def test_the_scale_begins_at_zero_unless_all_is_far_from_it():
    assert (scale([10.0, 100.0], 40).low, scale([90.0, 100.0], 40).low) == (0.0, 90.0)


@pytest.mark.parametrize("users", [[], [0.0], [5.0, 5.0], [1e12], [0.1, 0.1001]])
def test_a_scale_holds_whatever_comes(users):
    found = scale(users, 30)
    assert found.low < found.high
    assert all(found.low <= count <= found.high for count in users)
    assert found.ticks
