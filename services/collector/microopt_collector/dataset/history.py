"""Rows of a file to telemetry, or to the reason why they are none."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final, Literal

from microopt.messages import Telemetry
from microopt.specs import SliceSpec

Reason = Literal[
    "wrong_length",
    "wrong_time",
    "no_zone",
    "off_grid",
    "other_slot_s",
    "unsorted",
    "duplicate",
    "empty",
    "not_a_number",
    "negative",
    "implausible",
]

SOURCE: Final = "import"
MOST: Final = 1e12  # what a message's quantity may be
QOS_PER_THRESHOLD: Final = 1000.0
"""A QoS so many times the SLA's threshold is in another unit (docs/adr/0009-telemetry-sources.md)."""

GRID_US: Final = 500  # files say times in milliseconds

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


class RowError(Exception):
    """A row that cannot be imported; `reason` is what it is counted as, the text names column and value."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Which column of a file is what; None and absent are unknown. `zone` is that of times that name none."""

    time: str
    users: str | None = None
    qos: str | None = None
    slot_s: str | None = None
    qos_scale: float = 1.0
    zone: tzinfo | None = None
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For allocation, usage, pressure and throttled: resource → column."""

    @property
    def columns(self) -> list[str]:
        """Return all columns that are read, the time first."""
        single = [column for column in (self.time, self.users, self.qos, self.slot_s) if column is not None]
        return [*single, *(column for named in self.resources.values() for column in named.values())]


class Rows:
    """Reads the rows of one file for one slice, in their order, at `now`."""

    def __init__(self, spec: SliceSpec, fields: Fields, now: datetime) -> None:
        self._spec = spec
        self._fields = fields
        self._now = now
        self._slot_us = max(1, round(spec.slot_s * 1e6))
        self._last: datetime | None = None

    def read(self, cells: Sequence[object] | None) -> Telemetry:
        """Return the telemetry in one row's cells, which are those of the fields' columns.

        Raises:
            RowError: the row is none, or stands where it must not.
        """
        if cells is None:
            raise RowError("wrong_length", "more or fewer values than columns")
        row = dict(zip(self._fields.columns, cells, strict=True))
        time = self._on_grid(time_of(row[self._fields.time], self._fields.zone))
        if time > self._now:
            raise RowError("wrong_time", f"{time.isoformat()} is in the future")
        telemetry = self._telemetry(time, row)
        if self._last is not None and time <= self._last:
            again = time == self._last
            raise RowError(
                "duplicate" if again else "unsorted", f"{time.isoformat()} after {self._last.isoformat()}"
            )
        self._last = time
        return telemetry

    def _on_grid(self, time: datetime) -> datetime:
        """Return the beginning of the slot that begins at `time`: slots are counted from 1970."""
        time_us = (time - _EPOCH) // _US
        slot_us = (time_us + self._slot_us // 2) // self._slot_us * self._slot_us
        if abs(time_us - slot_us) > GRID_US:
            raise RowError("off_grid", f"no slot of {self._spec.slot_s:g} s begins at {time.isoformat()}")
        return _EPOCH + slot_us * _US

    def _telemetry(self, time: datetime, row: Mapping[str, object]) -> Telemetry:
        fields, spec = self._fields, self._spec
        slot_s = _number(row, fields.slot_s)
        if slot_s is not None and slot_s != spec.slot_s:
            raise RowError("other_slot_s", f"a slot of {slot_s:g} s, not {spec.slot_s:g} s")
        users, qos = _number(row, fields.users), self._qos(row)
        of = {kind: _values(row, columns) for kind, columns in fields.resources.items()}
        if users is None and qos is None and not any(of.values()):
            raise RowError("empty", "neither users nor QoS nor anything else")
        known = users is not None and (qos is not None or users == 0.0)
        return Telemetry(
            slice=spec.slice,
            time=time,
            slot_s=spec.slot_s,
            users=users,
            qos=qos,
            allocation=of.get("allocation", {}),
            usage=of.get("usage", {}),
            pressure=_shares(of, "pressure"),
            throttled=_shares(of, "throttled"),
            source=SOURCE,
            quality="complete" if known else "missing" if users is None and qos is None else "partial",
        )

    def _qos(self, row: Mapping[str, object]) -> float | None:
        qos = _number(row, self._fields.qos)
        if qos is None:
            return None
        qos *= self._fields.qos_scale
        threshold = self._spec.sla.qos_threshold
        if qos > QOS_PER_THRESHOLD * threshold:
            raise RowError(
                "implausible", f"QoS {qos:g} is more than {QOS_PER_THRESHOLD:g} times the SLA's {threshold:g}"
            )
        return qos


def time_of(cell: object, zone: tzinfo | None) -> datetime:
    """Return the time in UTC that a cell says: ISO 8601, or seconds since 1970.

    Raises:
        RowError: it says none, or not in which zone.
    """
    time = cell if isinstance(cell, datetime) else _read_time(cell)
    if time.tzinfo is None:
        if zone is None:
            raise RowError("no_zone", f"{cell} names no zone; say --zone, such as --zone UTC")
        time = time.replace(tzinfo=zone)
    return time.astimezone(UTC)


def _read_time(cell: object) -> datetime:
    try:
        seconds = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        try:
            return datetime.fromisoformat(cell.strip() if isinstance(cell, str) else "")
        except ValueError:
            raise RowError("wrong_time", f"{cell!r} is not a time in ISO 8601, nor seconds") from None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise RowError("wrong_time", f"{cell}: no such second since 1970; milliseconds?") from None


def _number(row: Mapping[str, object], column: str | None) -> float | None:
    cell = None if column is None else row[column]
    if cell is None:
        return None
    if isinstance(cell, bool) or not isinstance(cell, (int, float, str, Decimal)):
        raise RowError("not_a_number", f"column {column!r}: {cell!r}")
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RowError("not_a_number", f"column {column!r}: {cell!r}")
    if value < 0.0:
        raise RowError("negative", f"column {column!r}: {value:g}")
    if value > MOST:
        raise RowError("implausible", f"column {column!r}: {value:g}")
    return value


def _values(row: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, float]:
    values = {name: _number(row, column) for name, column in columns.items()}
    return {name: value for name, value in values.items() if value is not None}


def _shares(of: Mapping[str, dict[str, float]], kind: str) -> dict[str, float]:
    shares = of.get(kind, {})
    for name, share in shares.items():
        if share > 1.0:
            raise RowError("implausible", f"{kind} of {name}: {share:g} is more than a whole")
    return shares
