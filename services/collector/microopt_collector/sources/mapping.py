"""From a JSON object with fields of any name to a measurement, refusing what is no measurement."""

import json
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from microopt.errors import ConfigError, InvalidMessageError
from microopt.ids import slice_id
from microopt_collector.sources.base import Measurement

Subject = Annotated[
    str, Meta(pattern=r"^([^\s.>]+\.)*([^\s.>]+|>)$", description="a NATS subject, wildcards allowed")
]
TimeUnit = Literal["s", "ms", "rfc3339"]

MAX_QUANTITY: Final = 1e12  # what a Telemetry can hold
EARLIEST_S: Final = 946_684_800.0  # 2000-01-01: an older time is a time in another unit
_SECONDS: Final = {"s": 1.0, "ms": 1e-3}


class FieldMap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which field holds what; a dotted path such as `ue.count` goes into nested objects."""

    slice_field: str = "slice"
    time_field: str = "time"
    users_field: str | None = None
    """`None`: this source does not count users."""
    qos_field: str | None = None
    """`None`: this source does not measure QoS."""
    qos_scale: Annotated[float, Meta(gt=0.0)] = 1.0
    """From the source's unit to the SLA's: 1e-6 makes Mbit/s of bit/s."""
    time_unit: TimeUnit = "s"
    max_skew_s: Annotated[float, Meta(ge=0.0)] = 1.0
    """How far in the future a time may be; clocks that are kept by NTP or PTP agree far better."""

    def __post_init__(self) -> None:
        if self.users_field is None and self.qos_field is None:
            raise ValueError("a source needs users_field, qos_field or both")


def read(data: bytes, fields: FieldMap, *, source: str, now_s: float) -> Measurement:
    """Return the measurement in `data`; `now_s` is the present in seconds since the Unix epoch.

    Raises:
        InvalidMessageError: not a JSON object, or a field is missing, of a wrong type, NaN, negative or absurd;
            the text names the field.
    """
    try:
        found = json.loads(data)  # not msgspec: it calls NaN malformed, and the error shall name the field
    except (ValueError, RecursionError) as error:
        raise InvalidMessageError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidMessageError(f"expected a JSON object, got {type(found).__name__}")
    return Measurement(
        slice=_slice(found, fields.slice_field),
        time_s=_time_s(found, fields, now_s),
        users=_quantity(found, fields.users_field, 1.0),
        qos=_quantity(found, fields.qos_field, fields.qos_scale),
        source=source,
    )


def _slice(found: dict[str, Any], field: str) -> str:
    text = _get(found, field)
    if not isinstance(text, str):
        raise _wrong(field, text, "expected an S-NSSAI such as '1-000001'")
    try:
        return slice_id(text)
    except ConfigError as error:
        raise InvalidMessageError(f"field {field!r}: {error}") from error


def _quantity(found: dict[str, Any], field: str | None, scale: float) -> float | None:
    value = None if field is None else _get(found, field)
    if value is None:
        return None
    if not _is_number(value):
        raise _wrong(str(field), value, "expected a number or null")
    if not 0.0 <= value <= MAX_QUANTITY / scale:  # false for NaN too
        raise _wrong(str(field), value, f"expected a number from 0 to {MAX_QUANTITY / scale:g}")
    return float(value) * scale


def _time_s(found: dict[str, Any], fields: FieldMap, now_s: float) -> float:
    field, value = fields.time_field, _get(found, fields.time_field)
    if fields.time_unit == "rfc3339":
        time_s = _rfc3339_s(field, value)
    elif _is_number(value):
        time_s = value * _SECONDS[fields.time_unit] if abs(value) <= MAX_QUANTITY * 1e3 else float("nan")
    else:
        raise _wrong(field, value, f"expected a number ({fields.time_unit} since 1970)")
    if not EARLIEST_S <= time_s <= now_s + fields.max_skew_s:
        raise _wrong(
            field,
            value,
            f"expected a time from 2000 to at most {fields.max_skew_s:g} s from now; "
            f"is time_unit {fields.time_unit!r} right, and the source's clock?",
        )
    return float(time_s)


def _rfc3339_s(field: str, value: Any) -> float:
    try:
        time = msgspec.convert(value, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError as error:
        raise _wrong(
            field, value, "expected an RFC 3339 time with a zone, such as '2026-01-01T00:00:00Z'"
        ) from error
    return float(time.timestamp())


def _get(found: dict[str, Any], field: str) -> Any:
    value: Any = found
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            raise InvalidMessageError(f"field {field!r}: missing")
        value = value[key]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(field: str, value: Any, expected: str) -> InvalidMessageError:
    return InvalidMessageError(f"field {field!r}: {str(value)[:80]!r}: {expected}")
