import pytest

from microopt_collector.check.report import Rejections, Report, SliceReport, SourceReport, lines, remarks
from microopt_collector.sources.base import Measurement


def source(name: str, *measurements: Measurement, **changes) -> SourceReport:
    found = SourceReport(name=name, kind="mqtt", where="10.0.0.5:1883 slice/+/kpi", **changes)
    for one in measurements:
        found.slices.setdefault(one.slice, SliceReport()).note(one)
    return found


def said(slice_: str = "1-000001", **values) -> Measurement:
    return Measurement(slice=slice_, time_s=0.0, source="x", **values)


def report(*sources: SourceReport, declared=None) -> Report:
    return Report(bus="nats://127.0.0.1:4222", seconds=2.0, declared=declared, sources=list(sources))


def test_a_source_is_shown_with_its_slices_in_columns_and_with_units():
    found = report(
        source(
            "ran",
            said(users=3.0, qos=4.5, usage={"gnb_cpu": 1500.0}, throttled={"gnb_cpu": 0.1}),
            said("2", users=0.0),
            rejected={"negative": Rejections(12, "slice/1/kpi", "field 'ues': '-1'")},
            hints=["look here"],
        ),
        declared={"1-000001": "Mbit/s", "2": "Mbit/s"},
    )
    assert lines(found) == [
        "Declared slices at nats://127.0.0.1:4222: 1-000001, 2",
        "",
        "ran: mqtt 10.0.0.5:1883 slice/+/kpi — 2 measurements",
        "  slice     users  qos         resources                      measurements",
        "  1-000001  3      4.5 Mbit/s  gnb_cpu 1500, throttled 10.0%  1",
        "  2         0      unknown     -                              1",
        "  rejected",
        "    negative  12×  slice/1/kpi: field 'ues': '-1'",
        "  hint: look here",
        "",
        "every source gives measurements (2.0 s)",
    ]
    assert found.ok


def test_a_source_that_gives_nothing_is_named_with_its_error():
    found = report(source("ran", said(users=1.0, qos=1.0)), source("core", errors=["connection refused"]))
    assert not found.ok
    assert "core: mqtt 10.0.0.5:1883 slice/+/kpi — NOTHING" in lines(found)
    assert "  error: connection refused" in lines(found)
    assert lines(found)[-1] == "nothing from core (2.0 s)"
    assert "No declared slices are known" in lines(found)[0]


@pytest.mark.parametrize(("connected", "text"), [(True, "connected, and heard nothing"), (False, "no answer yet")])
def test_a_silent_source_says_whether_it_is_connected(connected, text):
    assert text in "\n".join(lines(report(source("ran", connected=connected))))


def test_two_that_give_the_same_quantity_are_said_to_be_averaged():
    found = report(source("smf", said(users=3.0)), source("ran", said(users=4.0, qos=5.0)))
    assert remarks(found) == ["slice 1-000001: users given by smf and ran, and averaged; is that meant?"]


def test_what_nobody_gives_of_a_declared_slice_is_said():
    found = report(
        source("smf", said(users=3.0), said("3", users=0.0)),
        declared={"1-000001": "Mbit/s", "2": "Mbit/s", "3": "Mbit/s"},
    )
    assert remarks(found) == [
        "slice 1-000001: no source gave its qos; its telemetry is partial",
        "slice 2: no source gave its users and qos; its telemetry is partial",
    ]
