"""Bytes to JSON, and JSON values to numbers and times, refusing what only looks like one."""

import json
import math
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from microopt_collector.sources.base import MAX_QUANTITY, Rejected

TimeUnit = Literal["s", "ms", "rfc3339"]

EARLIEST_S: Final = 946_684_800.0  # 2000-01-01: an older time is a time in another unit
QUOTED: Final = 80  # characters of a wrong value in an error
_LARGEST_MS: Final = MAX_QUANTITY * 1e3
_NOT_NUMBERS: Final = frozenset({"nan", "inf", "infinity"})
_decode = msgspec.json.Decoder().decode


def parse(data: bytes, max_bytes: int) -> Any:
    """Return what the JSON `data` says; NaN and Infinity are taken, so that an error can name their field.

    Raises:
        Rejected: too long, HTML, or not JSON.
    """
    if len(data) > max_bytes:
        raise Rejected("too_big", f"{len(data):,} bytes; max_payload_bytes allows {max_bytes:,}")
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(data)


def _parse_leniently(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        if is_html(data):
            raise Rejected("html", f"a web page, not JSON: {head(data)!r}; is this the right address?") from error
        raise Rejected("not_json", f"not JSON: {error}") from error


def is_html(data: bytes) -> bool:
    """Return whether `data` is a web page, as proxies and login forms answer with."""
    return data[:256].lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml"))


def head(data: bytes) -> str:
    """Return how `data` begins, for an error."""
    return data[:QUOTED].decode("utf-8", "replace")


def number(value: Any, field: str) -> float:
    """Return `value`, which must be a number that is not negative.

    Raises:
        Rejected: it is none; the text names `field`.
    """
    if type(value) is not float and type(value) is not int:
        raise _no_number(value, field)
    if value < 0:
        raise wrong("negative", field, value, "expected a number from 0")
    try:
        finite = float(value)
    except OverflowError as error:
        raise wrong("implausible", field, value, f"expected a number up to {MAX_QUANTITY:g}") from error
    if not math.isfinite(finite):
        raise wrong("not_a_number", field, value, "expected a number")
    return finite


def quantity(value: Any, field: str, scale: float) -> float:
    """Return `value` in microopt's unit.

    Raises:
        Rejected: it is no number, negative or absurd; the text names `field`.
    """
    scaled = number(value, field) * scale
    if scaled > MAX_QUANTITY:
        raise wrong("implausible", field, value, f"expected a number up to {MAX_QUANTITY / scale:g}")
    return scaled


def time_s(value: Any, field: str, unit: TimeUnit, latest_s: float) -> float:
    """Return the time in `value` as seconds since the Unix epoch.

    Raises:
        Rejected: it is none, before 2000 or after `latest_s`; the text names `field`.
    """
    if unit == "rfc3339":
        found = _rfc3339_s(value, field)
    elif type(value) is float or type(value) is int:
        seconds = value if abs(value) <= _LARGEST_MS else math.nan
        found = float(seconds) if unit == "s" else seconds * 1e-3
    else:
        raise wrong("wrong_time", field, value, f"expected a number ({unit} since 1970)")
    if not EARLIEST_S <= found <= latest_s:
        raise wrong(
            "wrong_time",
            field,
            value,
            "expected a time from 2000 to at most max_skew_s from now; "
            f"is time_unit {unit!r} right, and the source's clock?",
        )
    return found


def _rfc3339_s(value: Any, field: str) -> float:
    try:
        time = msgspec.convert(value, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError as error:
        expected = "expected an RFC 3339 time with a zone, such as '2026-01-01T00:00:00Z'"
        raise wrong("wrong_time", field, value, expected) from error
    return float(time.timestamp())


def wrong(reason: Literal["not_a_number", "negative", "implausible", "wrong_time", "no_slice"],
          field: str, value: Any, expected: str) -> Rejected:  # fmt: skip
    """Return the error of a value that does not fit, with the start of it."""
    return Rejected(reason, f"field {field!r}: {_quoted(value)}: {expected}")


def _no_number(value: Any, field: str) -> Rejected:
    if isinstance(value, str) and value.strip().lstrip("+-").lower() in _NOT_NUMBERS:
        return wrong("not_a_number", field, value, "the source does not know it; expected a number or null")
    if isinstance(value, str) and _is_numeric(value):
        return wrong("not_a_number", field, value, "a number in quotes is text; have the source send it without")
    return wrong("not_a_number", field, value, "expected a number or null")


def _is_numeric(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _quoted(value: Any) -> str:
    if isinstance(value, int) and not -(10**QUOTED) < value < 10**QUOTED:
        return "'a number of more than 80 digits'"  # str() of a very long one is an error
    return repr(str(value)[:QUOTED])
