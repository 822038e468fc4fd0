import json
from datetime import UTC, datetime

import msgspec
import pytest

from microopt.errors import InvalidMessageError
from microopt_collector.sources.base import Measurement
from microopt_collector.sources.mapping import FieldMap, read

NOW_S = 1_800_000_000.0
FIELDS = FieldMap(
    slice_field="id.snssai", time_field="t", users_field="ue.count", qos_field="ue.thpt", qos_scale=1e-6
)


def payload(**changes) -> bytes:
    """Build a good payload with the fields at these paths (`__` for a dot) changed, or left out when `...`."""
    found = {"id": {"snssai": "1-000001"}, "t": NOW_S - 1, "ue": {"count": 3, "thpt": 4.5e6}}
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = found
        for key in parents:
            inner = inner[key]
        inner[last] = value
        if value is ...:
            del inner[last]
    return json.dumps(found).encode()


def take(data: bytes, fields: FieldMap = FIELDS) -> Measurement:
    return read(data, fields, source="ran", now_s=NOW_S)


def test_dotted_fields_are_found_and_qos_is_scaled():
    found = take(payload())
    assert found == Measurement(
        slice="1-000001", time_s=NOW_S - 1, users=3.0, qos=pytest.approx(4.5), source="ran"
    )


def test_null_is_unknown():
    found = take(payload(ue__count=None, ue__thpt=None))
    assert (found.users, found.qos) == (None, None)


def test_a_source_without_a_field_for_qos_leaves_it_unknown():
    found = take(
        payload(ue__thpt="not read"), FieldMap(slice_field="id.snssai", time_field="t", users_field="ue.count")
    )
    assert (found.users, found.qos) == (3.0, None)


@pytest.mark.parametrize(("text", "canonical"), [("1-00000A", "1-00000a"), ("2-FFFFFF", "2")])
def test_one_slice_has_one_name(text, canonical):
    assert take(payload(id__snssai=text)).slice == canonical


@pytest.mark.parametrize(
    ("unit", "value"),
    [("s", NOW_S), ("ms", NOW_S * 1000), ("rfc3339", datetime.fromtimestamp(NOW_S, UTC).isoformat())],
)
def test_times_come_in_seconds_milliseconds_or_rfc_3339(unit, value):
    assert take(payload(t=value), msgspec.structs.replace(FIELDS, time_unit=unit)).time_s == NOW_S


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ue__count": float("nan")}, "ue.count"),
        ({"ue__count": float("inf")}, "ue.count"),
        ({"ue__count": -1}, "ue.count"),
        ({"ue__count": 10**400}, "ue.count"),
        ({"ue__count": "3"}, "ue.count"),
        ({"ue__count": True}, "ue.count"),
        ({"ue__count": ...}, "ue.count"),
        ({"ue": 7}, "ue.count"),
        ({"ue__thpt": float("nan")}, "ue.thpt"),
        ({"ue__thpt": -0.1}, "ue.thpt"),
        ({"t": NOW_S + 1.5}, "t"),
        ({"t": NOW_S * 1000}, "t"),
        ({"t": NOW_S / 1000}, "t"),
        ({"t": float("nan")}, "t"),
        ({"t": 10**400}, "t"),
        ({"t": None}, "t"),
        ({"t": "2026-01-01T00:00:00Z"}, "t"),
        ({"t": ...}, "t"),
        ({"id__snssai": 1}, "id.snssai"),
        ({"id__snssai": "edge"}, "id.snssai"),
        ({"id": ...}, "id.snssai"),
    ],
)
def test_what_is_no_measurement_is_refused_and_the_field_named(changes, field):
    with pytest.raises(InvalidMessageError, match=f"^field '{field}': "):
        take(payload(**changes))


@pytest.mark.parametrize("value", ["2027-01-15T08:00:00", "yesterday", 5])
def test_an_rfc_3339_time_without_a_zone_is_refused(value):
    with pytest.raises(InvalidMessageError, match=r"^field 't': .* with a zone"):
        take(payload(t=value), msgspec.structs.replace(FIELDS, time_unit="rfc3339"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x00\xff", "not JSON"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "expected a JSON object, got list"),
        (b"NaN", "expected a JSON object, got float"),
    ],
)
def test_what_is_no_json_object_is_refused(data, text):
    with pytest.raises(InvalidMessageError, match=text):
        take(data)


def test_a_little_clock_skew_is_tolerated():
    assert take(payload(t=NOW_S + 0.9)).time_s == NOW_S + 0.9


def test_a_field_map_without_users_and_qos_is_refused():
    with pytest.raises(msgspec.ValidationError, match="users_field, qos_field or both"):
        msgspec.convert({}, FieldMap)
