import pytest

from microopt_collector.sources.base import Measurement, Rejected
from microopt_collector.sources.srsran_report import Cells, read

ONE = Cells(every="1-000001", by_pci={})
TWO = Cells(every=None, by_pci={1: "1-000001", 2: "2"})


def ue(pci: int = 1, brate: object = 12e6, **changes) -> dict:
    return {"pci": pci, "rnti": 17921, "cqi": 15, "dl_mcs": 27, "dl_brate": brate, "dl_bs": 0} | changes


def old(*ues: dict) -> dict:
    """Build a report as of 24.10 over UDP."""
    return {"timestamp": 1.7e9, "cell_metrics": {}, "ue_list": [{"ue_container": one} for one in ues]}


def new(**cells: list[dict]) -> dict:
    """Build a report as of 25.10 over the WebSocket; cells as `pci1=[…]`."""
    found = [
        {"cell_metrics": {"pci": int(name[3:])}, "ue_list": ues, "event_list": []} for name, ues in cells.items()
    ]
    return {"timestamp": "2026-02-16T20:24:04.123", "cells": found}


def take(found: object, cells: Cells = ONE, active_only: bool = False) -> tuple[dict, list[str]]:
    """Return users and QoS by slice, and the reasons of what was rejected."""
    items = read(found, cells, active_only=active_only, source="gnb", now_s=5.0)
    taken = {m.slice: (m.users, m.qos) for m in items if isinstance(m, Measurement)}
    return taken, [r.reason for r in items if isinstance(r, Rejected)]


def test_both_generations_give_users_and_the_mean_rate_of_a_user():
    assert take(old(ue(brate=12e6), ue(brate=4e6))) == ({"1-000001": (2.0, 8.0)}, [])
    assert take(new(pci1=[ue(brate=12e6)], pci2=[ue(2, brate=4e6)])) == ({"1-000001": (2.0, 8.0)}, [])


def test_cells_may_be_of_different_slices():
    found = new(pci1=[ue(brate=12e6), ue(brate=6e6)], pci2=[])
    assert take(found, TWO) == ({"1-000001": (2.0, 9.0), "2": (0.0, None)}, [])


def test_no_ues_are_no_users_where_the_cell_is_known():
    assert take(old()) == ({"1-000001": (0.0, None)}, [])
    assert take(old(), TWO) == ({}, [])


def test_idle_ues_can_be_left_out():
    found = old(ue(brate=8e6), ue(brate=0), ue(brate=0, dl_bs=900))
    assert take(found)[0] == {"1-000001": (3.0, pytest.approx(8 / 3))}
    assert take(found, active_only=True)[0] == {"1-000001": (2.0, 4.0)}


@pytest.mark.parametrize("brate", [-1, float("nan"), "12e6"])
def test_a_rate_that_is_no_number_makes_the_qos_unknown_and_not_lower(brate):
    taken, reasons = take(old(ue(brate=8e6), ue(brate=brate)))
    assert taken == {"1-000001": (2.0, None)}
    assert reasons in (["negative"], ["not_a_number"])


def test_a_ue_without_a_rate_makes_the_qos_unknown():
    without = ue()
    del without["dl_brate"]
    assert take(old(without)) == ({"1-000001": (1.0, None)}, ["missing_field"])


def test_a_ue_of_a_cell_that_is_not_mapped_is_said_and_the_others_are_taken():
    assert take(new(pci1=[ue()], pci7=[ue(7)]), TWO) == ({"1-000001": (1.0, 12.0)}, ["no_slice"])


@pytest.mark.parametrize(
    "found",
    [
        {"cmd": "metrics_subscribe", "timestamp": "2026-02-16T20:24:04.123"},
        {"timestamp": "x", "app_resource_usage": {"cpu_usage_percent": 1.0}},
        {"timestamp": "x", "du": {"du_high": {"mac": {"dl": []}}}},
        {"timestamp": "x", "cu-cp": {"id": "srs-cu-cp"}},
        {"cells": []},
    ],
)
def test_other_objects_of_the_stream_are_passed_over(found):
    assert take(found) == ({}, [])


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"error": "Unknown command", "cmd": "x"}, "refused"),
        ([1], "not_json"),
        ({"ue_list": 7}, "not_json"),
        ({"ue_list": [7]}, "not_json"),
    ],
)
def test_what_is_no_report_is_rejected(found, reason):
    assert take(found)[1] == [reason]
