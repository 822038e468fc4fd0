"""What the reports of an srsRAN gNB say of slices: its JSON of both generations to measurements.

Up to 25.04 a report is of one cell, `{"ue_list": [{"ue_container": {…}}]}`; from 25.10 on it is of all,
`{"cells": [{"cell_metrics": {"pci": 1}, "ue_list": [{…}]}]}`. UEs have no slice in it, only their cell.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from microopt_collector.sources import values
from microopt_collector.sources.base import Measurement, Rejected
from microopt_collector.sources.mapping import Found

MBPS_OF_BPS: Final = 1e-6


class Cells(Struct, frozen=True, kw_only=True):
    """Which slice the UEs of a cell (by PCI) belong to; `every` is that of all cells."""

    every: str | None
    by_pci: Mapping[int, str]

    def slice_of(self, pci: Any) -> str | None:
        """Return the slice of a cell, or None."""
        return self.every or (self.by_pci.get(pci) if isinstance(pci, int) else None)

    def only(self) -> str | None:
        """Return the slice, if there is just one."""
        return self.every or (next(iter(self.by_pci.values())) if len(set(self.by_pci.values())) == 1 else None)


class _Users:
    """The UEs of one slice in one report."""

    def __init__(self) -> None:
        self.count = 0
        self.brate_bps = 0.0
        self.qos_known = True


def read(found: Any, cells: Cells, *, active_only: bool, source: str, now_s: float) -> Found:
    """Return a measurement for each slice that the report is of; other objects of the stream give nothing."""
    if not isinstance(found, dict):
        return [Rejected("not_json", f"expected a JSON object, got {type(found).__name__}")]
    if "error" in found:
        return [Rejected("refused", f"the gNB says: {str(found['error'])[:500]}")]
    users: dict[str, _Users] = {}
    rejected: list[Rejected] = []
    for cell in _cells(found):
        try:
            _add(cell, cells, active_only, users)
        except Rejected as error:
            rejected.append(error)
    taken = [_measurement(slice_, one, source, now_s) for slice_, one in users.items()]
    return [*taken, *rejected]


def _cells(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(found.get("cells"), list):
        yield from (cell for cell in found["cells"] if isinstance(cell, dict) and "ue_list" in cell)
    elif "ue_list" in found:
        yield found


def _add(cell: dict[str, Any], cells: Cells, active_only: bool, users: dict[str, _Users]) -> None:
    """Count the UEs of a cell.

    Raises:
        Rejected: a UE or its cell cannot be told; what was counted before it is kept.
    """
    metrics = cell.get("cell_metrics")
    pci = metrics.get("pci") if isinstance(metrics, dict) else None
    ues = cell["ue_list"]
    if not isinstance(ues, list):
        raise Rejected("not_json", f"field 'ue_list': expected a list, got {type(ues).__name__}")
    slice_ = cells.only() if pci is None else cells.slice_of(pci)
    if slice_ is not None:
        users.setdefault(slice_, _Users())  # a cell without UEs has 0 users
    wrong: Rejected | None = None
    for ue in ues:
        try:
            _count(ue, cells, active_only, users)
        except Rejected as error:
            wrong = error
    if wrong:
        raise wrong


def _count(ue: Any, cells: Cells, active_only: bool, users: dict[str, _Users]) -> None:
    ue = ue.get("ue_container", ue) if isinstance(ue, dict) else None
    if not isinstance(ue, dict):
        raise Rejected("not_json", "field 'ue_list': expected objects")
    slice_ = cells.slice_of(ue.get("pci"))
    if slice_ is None:
        raise Rejected("no_slice", f"a UE of the cell with PCI {ue.get('pci')!r}, which is not in slice_of_pci")
    one = users.setdefault(slice_, _Users())
    try:
        if "dl_brate" not in ue:
            raise Rejected("missing_field", "field 'dl_brate': missing")
        brate_bps = values.quantity(ue["dl_brate"], "dl_brate", 1.0)
    except Rejected:
        one.count += 1
        one.qos_known = False
        raise
    if active_only and brate_bps == 0.0 and not ue.get("dl_bs"):
        return
    one.count += 1
    one.brate_bps += brate_bps


def _measurement(slice_: str, one: _Users, source: str, now_s: float) -> Measurement:
    qos = one.brate_bps * MBPS_OF_BPS / one.count if one.count and one.qos_known else None
    return Measurement(slice=slice_, time_s=now_s, source=source, users=float(one.count), qos=qos)
