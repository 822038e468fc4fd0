"""From JSON objects with fields of any name to measurements, refusing what is no measurement."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field

from microopt.errors import ConfigError
from microopt.ids import slice_id
from microopt.messages import Name
from microopt_collector.sources import values
from microopt_collector.sources.base import CommonSettings, Measurement, Rejected
from microopt_collector.sources.rates import Rates
from microopt_collector.sources.values import TimeUnit

Scale = Annotated[float, Meta(gt=0.0)]
Found = list[Measurement | Rejected]

MIB: Final = 1024 * 1024
_canonical = lru_cache(maxsize=16_384)(slice_id)


class FieldMap(CommonSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which field holds what; a dotted path such as `ue.count` goes into nested objects."""

    slice_field: str = "slice"
    slice_token: Annotated[int, Meta(ge=0)] | None = None
    """Instead of `slice_field`: which part of the topic or subject names the slice, counted from 0."""
    slice: str | None = None
    """Instead of `slice_field`: the one slice that all messages are of."""
    slice_names: dict[str, str] = field(default_factory=dict)
    """What the source calls slices → their S-NSSAI."""
    time_field: str = "time"
    """Empty: the messages say no time; that of their arrival is taken."""
    time_unit: TimeUnit = "s"
    max_skew_s: Annotated[float, Meta(ge=0.0)] = 1.0
    """How far in the future a time may be; clocks that are kept by NTP or PTP agree far better."""
    users_field: str | None = None
    """`None`: this source does not count users."""
    qos_field: str | None = None
    """`None`: this source does not measure QoS."""
    qos_scale: Scale = 1.0
    """From the source's unit to the SLA's: 1e-6 makes Mbit/s of bit/s."""
    qos_per: Literal["ue", "slice"] = "ue"
    """`slice`: the QoS is the total of all users, and is divided by their number."""
    qos_counter: bool = False
    """The QoS is a counter; its growth per second is taken, before `qos_scale`."""
    usage_fields: dict[Name, str] = field(default_factory=dict)
    """Resource → field of how much of it the slice uses."""
    usage_scale: dict[Name, Scale] = field(default_factory=dict)
    """Resource → factor to the resource's unit; 1 for those not named."""
    max_payload_bytes: Annotated[int, Meta(ge=1)] = MIB

    def __post_init__(self) -> None:
        if self.users_field is None and self.qos_field is None and not self.usage_fields:
            raise ValueError("a source needs users_field, qos_field or both, or usage_fields")
        if self.slice is not None and self.slice_token is not None:
            raise ValueError("slice and slice_token both name the slice; give one of them")
        if self.qos_per == "slice" and (self.users_field is None or self.qos_field is None):
            raise ValueError('qos_per = "slice" divides by the users: it needs users_field and qos_field')
        if unknown := sorted(set(self.usage_scale) - set(self.usage_fields)):
            raise ValueError(f"usage_scale: {', '.join(unknown)} not in usage_fields")
        check_slices(self.slice_names, self.slice)


def check_slices(names: Mapping[str, str], fixed: str | None) -> None:
    """Make sure that what settings say of slices are S-NSSAIs.

    Raises:
        ValueError: one is not; the text names it.
    """
    try:
        for text in (*names.values(), *([] if fixed is None else [fixed])):
            slice_id(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def slice_of(text: Any, names: Mapping[str, str], where: str) -> str:
    """Return the S-NSSAI of the slice that a source calls `text`.

    Raises:
        Rejected: no S-NSSAI, and not in `slice_names` either.
    """
    if isinstance(text, str):
        try:
            return _canonical(names.get(text, text))
        except ConfigError as error:
            known = f"it knows {', '.join(sorted(names)[:20])}" if names else "it is empty"
            raise Rejected("no_slice", f"{where}: {error}; or map it by slice_names ({known})") from error
    raise Rejected("no_slice", f"{where}: {str(text)[:80]!r}: expected an S-NSSAI such as '1-000001'")


class Mapper:
    """Reads the messages of one source; it knows the last reading of each counter."""

    def __init__(self, fields: FieldMap, source: str, separator: str) -> None:
        self._fields = fields
        self._source = source
        self._separator = separator
        self._fixed = None if fields.slice is None else slice_id(fields.slice)
        self._slice = _getter(fields.slice_field)
        self._time = _getter(fields.time_field) if fields.time_field else None
        self._users = _getter(fields.users_field) if fields.users_field else None
        self._qos = _getter(fields.qos_field) if fields.qos_field else None
        self._usage = [
            (resource, path, _getter(path), fields.usage_scale.get(resource, 1.0))
            for resource, path in fields.usage_fields.items()
        ]
        self._rates = Rates()

    def read(self, data: bytes, subject: str, now_s: float) -> Found:
        """Return what one message says: of one slice or, if it is a list, of several, each taken or rejected.

        `now_s` is the present in seconds since the Unix epoch.
        """
        try:
            found = values.parse(data, self._fields.max_payload_bytes)
            if not isinstance(found, list):
                return self._measurements(found, subject, now_s)
        except Rejected as error:
            return [error]
        if not found:
            return [Rejected("empty", "an empty list")]
        return [item for n, one in enumerate(found) for item in self._of_list(n, one, subject, now_s)]

    def _of_list(self, n: int, one: Any, subject: str, now_s: float) -> Found:
        try:
            return self._measurements(one, subject, now_s)
        except Rejected as error:
            return [Rejected(error.reason, f"element {n} of the list: {error}")]

    def _measurements(self, found: Any, subject: str, now_s: float) -> Found:
        if not isinstance(found, dict):
            raise Rejected("not_json", f"expected a JSON object or a list of them, got {type(found).__name__}")
        fields = self._fields
        slice_ = self._fixed or self._named(found, subject)
        time_s = now_s
        if self._time:
            time_s = values.time_s(
                self._time(found), fields.time_field, fields.time_unit, now_s + fields.max_skew_s
            )
        users = None
        if self._users and (value := self._users(found)) is not None:
            users = values.quantity(value, str(fields.users_field), 1.0)
        qos, reset = self._qos_of(found, slice_, time_s, users)
        measurement = Measurement(
            slice=slice_, time_s=time_s, source=self._source, users=users, qos=qos, usage=self._used(found)
        )
        return [measurement] if reset is None else [measurement, reset]

    def _named(self, found: dict[str, Any], subject: str) -> str:
        token, names = self._fields.slice_token, self._fields.slice_names
        if token is None:
            return slice_of(self._slice(found), names, f"field {self._fields.slice_field!r}")
        parts = subject.split(self._separator)
        if token >= len(parts):
            raise Rejected("no_slice", f"slice_token {token}: {subject!r} has only {len(parts)} parts, from 0")
        return slice_of(parts[token], names, f"part {token} of {subject!r}")

    def _qos_of(
        self, found: dict[str, Any], slice_: str, time_s: float, users: float | None
    ) -> tuple[float | None, Rejected | None]:
        """Return the QoS of a user, and why it is unknown where a counter went back."""
        fields = self._fields
        if self._qos is None or (value := self._qos(found)) is None:
            return None, None
        name = str(fields.qos_field)
        if fields.qos_counter:
            counted = values.number(value, name)
            try:
                value = self._rates.per_s(slice_, counted, time_s)
            except Rejected as error:
                return None, Rejected(error.reason, f"field {name!r}: {error}")
            if value is None:
                return None, None
        qos = values.quantity(value, name, fields.qos_scale)
        if fields.qos_per == "slice":
            return (values.quantity(qos / users, name, 1.0) if users else None), None
        return qos, None

    def _used(self, found: dict[str, Any]) -> dict[str, float]:
        if not self._usage:
            return {}
        used: dict[str, float] = {}
        for resource, path, get, scale in self._usage:
            if (value := get(found)) is not None:
                used[resource] = values.quantity(value, path, scale)
        return used


def _getter(path: str) -> Callable[[dict[str, Any]], Any]:
    """Return what finds `path` in an object, or raises `Rejected` where it is missing."""
    keys = path.split(".")

    def get(found: dict[str, Any]) -> Any:
        value: Any = found
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise Rejected("missing_field", f"field {path!r}: missing")
            value = value[key]
        return value

    return get
