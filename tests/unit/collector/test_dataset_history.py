from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from microopt_collector.dataset.history import Fields, RowError, Rows

NOW = datetime(2026, 1, 31, tzinfo=UTC)
FIELDS = Fields(
    time="when",
    users="ues",
    qos="thpt",
    slot_s="slot",
    resources={"allocation": {"gnb_cpu": "cpu"}, "usage": {"gnb_cpu": "used"}, "pressure": {"gnb_cpu": "psi"}},
)
GOOD = {
    "when": "2026-01-01T00:00:00Z",
    "ues": "3",
    "thpt": "4.5",
    "slot": "60.0",
    "cpu": "2000",
    "used": "900.5",
    "psi": "0.25",
}


@pytest.fixture
def rows(make_slice):
    def build(slot_s=60.0, fields=FIELDS):
        return Rows(make_slice(slot_s=slot_s, interval_s=3600.0), fields, NOW)

    return build


def cells(**changes):
    return list((GOOD | changes).values())


def reason_of(reader, **changes):
    with pytest.raises(RowError) as caught:
        reader.read(cells(**changes))
    return caught.value.reason


def test_a_row_becomes_telemetry_with_everything_that_it_says(rows):
    slot = rows().read(cells())
    assert (slot.slice, slot.time, slot.slot_s) == ("1-000001", datetime(2026, 1, 1, tzinfo=UTC), 60.0)
    assert (slot.users, slot.qos, slot.quality, slot.source) == (3.0, 4.5, "complete", "import")
    assert (slot.allocation, slot.usage, slot.pressure) == (
        {"gnb_cpu": 2000.0},
        {"gnb_cpu": 900.5},
        {"gnb_cpu": 0.25},
    )
    assert slot.throttled == {}


@pytest.mark.parametrize(
    ("changes", "quality"),
    [
        ({"thpt": None}, "partial"),
        ({"ues": None}, "partial"),
        ({"ues": "0", "thpt": None}, "complete"),
        ({"ues": None, "thpt": None}, "missing"),
    ],
)
def test_empty_cells_are_unknown(changes, quality, rows):
    slot = rows().read(cells(**changes))
    assert slot.quality == quality
    assert [slot.users is None, slot.qos is None] == [
        name in changes and not changes[name] for name in ("ues", "thpt")
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ues": "NaN"}, "not_a_number"),
        ({"ues": float("nan")}, "not_a_number"),
        ({"thpt": "inf"}, "not_a_number"),
        ({"cpu": "3,5"}, "not_a_number"),
        ({"cpu": True}, "not_a_number"),
        ({"ues": "-1"}, "negative"),
        ({"used": "-0.5"}, "negative"),
        ({"ues": "1e13"}, "implausible"),
        ({"psi": "1.5"}, "implausible"),
        ({"thpt": "4500001"}, "implausible"),
        ({"when": None}, "wrong_time"),
        ({"when": "noon"}, "wrong_time"),
        ({"when": "2026-02-01T00:00:00Z"}, "wrong_time"),
        ({"when": "1767225600000"}, "wrong_time"),
        ({"when": "nan"}, "wrong_time"),
        ({"when": "2026-01-01 00:00:00"}, "no_zone"),
        ({"when": "2026-01-01T00:00:30Z"}, "off_grid"),
        ({"slot": "10"}, "other_slot_s"),
        ({"ues": None, "thpt": None, "cpu": None, "used": None, "psi": None}, "empty"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(changes, reason, rows):
    reader = rows()
    assert reason_of(reader, **changes) == reason
    assert reader.read(cells()).users == 3.0  # and the next is taken, at the same time too


def test_a_row_of_another_length_is_refused(rows):
    with pytest.raises(RowError, match="more or fewer values than columns"):
        rows().read(None)


def test_what_is_refused_is_named_with_its_column_and_value(rows):
    with pytest.raises(RowError, match=r"column 'ues': -3"):
        rows().read(cells(ues="-3"))


def test_rows_out_of_order_and_repeated_ones_are_refused(rows):
    reader = rows()
    reader.read(cells(when="2026-01-01T00:05:00Z"))
    assert reason_of(reader, when="2026-01-01T00:05:00Z") == "duplicate"
    assert reason_of(reader, when="2026-01-01T01:05:00+01:00") == "duplicate"
    assert reason_of(reader, when="2026-01-01T00:04:00Z") == "unsorted"
    reader.read(cells(when="2026-01-01T00:06:00Z"))


@pytest.mark.parametrize(
    "when",
    [
        "2026-01-01T00:00:00Z",
        " 2026-01-01 01:00:00+01:00 ",
        "1767225600",
        1767225600,
        datetime(2026, 1, 1, tzinfo=UTC),
    ],
)
def test_times_are_iso_8601_or_seconds(when, rows):
    assert rows().read(cells(when=when)).time == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("when", ["2026-01-01 01:00:00", datetime(2026, 1, 1, 1)])  # noqa: DTZ001
def test_a_zone_is_that_of_times_that_name_none(when, rows):
    fields = Fields(time="when", users="ues", zone=ZoneInfo("Europe/Rome"))
    assert rows(fields=fields).read([when, "3"]).time == datetime(2026, 1, 1, tzinfo=UTC)
    assert rows(fields=fields).read(["2026-01-01T00:00:00Z", "3"]).time == datetime(2026, 1, 1, tzinfo=UTC)


def test_short_slots_are_told_from_times_in_milliseconds(rows):
    reader = rows(slot_s=1 / 30, fields=Fields(time="when", users="ues"))
    for number in range(10**9, 10**9 + 30):
        begins = datetime.fromtimestamp(0, UTC) + number * timedelta(microseconds=33_333)
        said = datetime.fromtimestamp(round(begins.timestamp(), 3), UTC)
        assert reader.read([said.isoformat(), "3"]).time == begins


def test_qos_is_scaled(rows):
    fields = Fields(time="when", users="ues", qos="bps", qos_scale=1e-6)
    assert rows(fields=fields).read(["2026-01-01T00:00:00Z", "3", "4.5e6"]).qos == pytest.approx(4.5)
