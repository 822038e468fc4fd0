import json
from datetime import UTC, datetime

import msgspec
import pytest

from microopt_collector.sources.base import Measurement, Rejected
from microopt_collector.sources.mapping import FieldMap, Mapper

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


def read(
    data: bytes, fields: FieldMap = FIELDS, subject: str = "ran.kpi.1-000001.x"
) -> list[Measurement | Rejected]:
    return Mapper(fields, "ran", ".").read(data, subject, NOW_S)


def take(data: bytes, fields: FieldMap = FIELDS, subject: str = "ran.kpi.1-000001.x") -> Measurement:
    """Return the one measurement in `data`."""
    [found] = read(data, fields, subject)
    if isinstance(found, Rejected):
        raise found
    return found


def refused(data: bytes, fields: FieldMap = FIELDS, subject: str = "ran.kpi.1-000001.x") -> tuple[str, str]:
    """Return why the one thing in `data` was rejected, and the text."""
    with pytest.raises(Rejected) as caught:
        take(data, fields, subject)
    return caught.value.reason, str(caught.value)


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
    ("changes", "field", "reason"),
    [
        ({"ue__count": float("nan")}, "ue.count", "not_a_number"),
        ({"ue__count": float("inf")}, "ue.count", "not_a_number"),
        ({"ue__count": float("-inf")}, "ue.count", "negative"),
        ({"ue__count": "NaN"}, "ue.count", "not_a_number"),
        ({"ue__count": "+Inf"}, "ue.count", "not_a_number"),
        ({"ue__count": -1}, "ue.count", "negative"),
        ({"ue__count": 10**400}, "ue.count", "implausible"),
        ({"ue__count": 1e13}, "ue.count", "implausible"),
        ({"ue__count": "3"}, "ue.count", "not_a_number"),
        ({"ue__count": True}, "ue.count", "not_a_number"),
        ({"ue__count": [3]}, "ue.count", "not_a_number"),
        ({"ue__count": ...}, "ue.count", "missing_field"),
        ({"ue": 7}, "ue.count", "missing_field"),
        ({"ue__thpt": float("nan")}, "ue.thpt", "not_a_number"),
        ({"ue__thpt": -0.1}, "ue.thpt", "negative"),
        ({"t": NOW_S + 1.5}, "t", "wrong_time"),
        ({"t": NOW_S * 1000}, "t", "wrong_time"),
        ({"t": NOW_S / 1000}, "t", "wrong_time"),
        ({"t": float("nan")}, "t", "wrong_time"),
        ({"t": 10**400}, "t", "wrong_time"),
        ({"t": None}, "t", "wrong_time"),
        ({"t": "2026-01-01T00:00:00Z"}, "t", "wrong_time"),
        ({"t": ...}, "t", "missing_field"),
        ({"id__snssai": "embb"}, "id.snssai", "no_slice"),
        ({"id__snssai": 1}, "id.snssai", "no_slice"),
        ({"id": ...}, "id.snssai", "missing_field"),
    ],
)
def test_what_is_no_measurement_is_refused_with_a_reason_and_the_field_named(changes, field, reason):
    found, text = refused(payload(**changes))
    assert found == reason
    assert text.startswith(f"field {field!r}: ")


@pytest.mark.parametrize("value", ["2027-01-15T08:00:00", "yesterday", 5])
def test_an_rfc_3339_time_without_a_zone_is_refused(value):
    reason, text = refused(payload(t=value), msgspec.structs.replace(FIELDS, time_unit="rfc3339"))
    assert reason == "wrong_time"
    assert text.startswith("field 't': ")
    assert " with a zone" in text


def test_a_number_in_quotes_is_said_to_be_text():
    _, text = refused(payload(ue__count="42"))
    assert "a number in quotes is text" in text


@pytest.mark.parametrize(
    ("data", "reason", "text"),
    [
        (b"\x00\xff", "not_json", "not JSON"),
        (b"{", "not_json", "not JSON"),
        (b"", "not_json", "not JSON"),
        (b"[" * 100_000, "not_json", "not JSON"),
        (b"[1, 2", "not_json", "not JSON"),
        (b"NaN", "not_json", "expected a JSON object or a list of them, got float"),
        (b"[]", "empty", "an empty list"),
        (b" \n<!DOCTYPE html><html>login</html>", "html", "is this the right address"),
        (b"<html><body>502</body></html>", "html", "is this the right address"),
        (b'{"a": "' + b"x" * 3_000_000 + b'"}', "too_big", "3,000,009 bytes; max_payload_bytes allows 1,048,576"),
    ],
)
def test_what_is_no_json_object_is_refused(data, reason, text):
    found, said = refused(data)
    assert found == reason
    assert text in said


def test_each_element_of_a_list_is_taken_or_refused_by_itself():
    good, bad = json.loads(payload()), json.loads(payload(ue__count=-1))
    first, second, third, fourth = read(json.dumps([good, bad, 7, good | {"id": {"snssai": "2"}}]).encode())
    assert (first.slice, fourth.slice) == ("1-000001", "2")
    assert (second.reason, third.reason) == ("negative", "not_json")
    assert str(second).startswith("element 1 of the list: field 'ue.count': ")


def test_the_slice_may_be_a_part_of_the_subject():
    fields = msgspec.structs.replace(FIELDS, slice_token=2)
    assert take(payload(id=...), fields).slice == "1-000001"
    reason, text = refused(payload(), msgspec.structs.replace(FIELDS, slice_token=9))
    assert reason == "no_slice"
    assert "'ran.kpi.1-000001.x' has only 4 parts" in text


def test_the_slice_may_be_fixed():
    assert take(payload(id=...), msgspec.structs.replace(FIELDS, slice="2-FFFFFF")).slice == "2"


def test_other_names_of_slices_are_translated():
    fields = msgspec.structs.replace(FIELDS, slice_names={"embb": "1-00000A"})
    assert take(payload(id__snssai="embb"), fields).slice == "1-00000a"
    assert take(payload(id__snssai="2"), fields).slice == "2"
    _, text = refused(payload(id__snssai="urllc"), fields)
    assert "slice_names (it knows embb)" in text


def test_without_a_time_field_the_time_is_that_of_arrival():
    assert take(payload(t=...), msgspec.structs.replace(FIELDS, time_field="")).time_s == NOW_S


def test_the_total_of_a_slice_is_divided_by_its_users():
    fields = msgspec.structs.replace(FIELDS, qos_per="slice")
    assert take(payload(), fields).qos == pytest.approx(1.5)
    assert take(payload(ue__count=0), fields).qos is None
    assert take(payload(ue__count=None), fields).qos is None
    assert refused(payload(ue__count=5e-324), fields)[0] == "not_a_number"


def test_usage_is_read_for_each_resource_and_scaled():
    fields = msgspec.structs.replace(FIELDS, usage_fields={"gnb_cpu": "cpu.cores"}, usage_scale={"gnb_cpu": 1e3})
    assert take(payload(cpu={"cores": 1.5}), fields).usage == {"gnb_cpu": 1500.0}
    assert take(payload(cpu={"cores": None}), fields).usage == {}
    assert refused(payload(cpu={"cores": -1}), fields)[0] == "negative"


COUNTED = msgspec.structs.replace(FIELDS, qos_counter=True, qos_scale=8e-6)


def counted(*readings: tuple[float, float]) -> list[list[Measurement | Rejected]]:
    mapper = Mapper(COUNTED, "ran", ".")
    return [mapper.read(payload(t=t, ue__thpt=v), "", NOW_S) for t, v in readings]


def test_a_counter_gives_its_rate_from_the_second_reading_on():
    [first], [second], [third] = counted((NOW_S - 9, 5e15), (NOW_S - 7, 5e15 + 1e6), (NOW_S - 6, 5e15 + 1e6))
    assert (first.users, first.qos) == (3.0, None)
    assert second.qos == pytest.approx(4.0)
    assert third.qos == 0.0


def test_a_counter_that_went_back_gives_no_rate_and_says_why():
    _, [after, said], [next_] = counted((NOW_S - 9, 1e6), (NOW_S - 8, 5.0), (NOW_S - 7, 1e6 + 5.0))
    assert (after.users, after.qos) == (3.0, None)
    assert said.reason == "reset"
    assert "field 'ue.thpt'" in str(said)
    assert next_.qos == pytest.approx(8.0)


def test_a_counter_read_again_or_out_of_order_gives_no_rate():
    _, [again], [older] = counted((NOW_S - 9, 1e6), (NOW_S - 9, 1e6), (NOW_S - 20, 1.0))
    assert (again.qos, older.qos) == (None, None)


def test_a_counter_has_no_rate_over_a_long_silence():
    _, [late], [next_] = counted((NOW_S - 1000, 0.0), (NOW_S - 2, 1e9), (NOW_S - 1, 1e9))
    assert (late.qos, next_.qos) == (None, 0.0)


def test_a_little_clock_skew_is_tolerated():
    assert take(payload(t=NOW_S + 0.9)).time_s == NOW_S + 0.9


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, "users_field, qos_field or both"),
        ({"users_field": "u", "slice": "1", "slice_token": 1}, "give one of them"),
        ({"users_field": "u", "qos_per": "slice"}, "needs users_field and qos_field"),
        ({"users_field": "u", "slice": "embb"}, "not an S-NSSAI"),
        ({"users_field": "u", "slice_names": {"embb": "x"}}, "'x': not an S-NSSAI"),
        ({"users_field": "u", "usage_scale": {"gnb_cpu": 2.0}}, "gnb_cpu not in usage_fields"),
    ],
)
def test_a_field_map_that_cannot_be_meant_is_refused(table, text):
    with pytest.raises(msgspec.ValidationError, match=text):
        msgspec.convert(table, FieldMap)
