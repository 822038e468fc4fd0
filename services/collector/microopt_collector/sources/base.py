"""What the collector asks of everything that it can measure slices with."""

import time
from collections.abc import Callable, Iterable
from typing import Annotated, ClassVar, Final, Literal, Protocol

import structlog
from msgspec import Meta, Struct

from microopt.errors import InvalidMessageError

Reason = Literal[
    "not_json", "html", "too_big", "missing_field", "not_a_number", "negative", "implausible", "wrong_time",
    "unknown_slice", "no_slice", "reset", "stale", "down", "empty", "retained", "timeout", "refused", "error",
]  # fmt: skip

MAX_QUANTITY: Final = 1e12  # what a Telemetry can hold


class Rejected(InvalidMessageError):
    """What a source heard and what is no measurement; the text names the field and the remedy."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


class Measurement(Struct, frozen=True, kw_only=True):
    """What one source said of one slice at one instant; `None` and absent are unknown.

    `time_s` is seconds since the Unix epoch, `qos` is in the unit of the slice's SLA. By resource, `usage` is in
    its unit, `pressure` and `throttled` are shares from 0 to 1, as in `Telemetry`.
    """

    slice: str
    time_s: float
    source: str
    users: float | None = None
    qos: float | None = None
    usage: dict[str, float] = {}
    pressure: dict[str, float] = {}
    throttled: dict[str, float] = {}


class CommonSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every source can be told."""

    unit_setting: ClassVar[str] = "qos_scale"
    """Which setting is probably wrong where a QoS is implausible."""

    max_users: Annotated[float, Meta(gt=0.0, le=MAX_QUANTITY)] = 1e6
    """More users than a slice can have: what says so is no count of users."""

    @property
    def where(self) -> str:
        """Return what is asked or heard, for an operator."""
        raise NotImplementedError


class Sink(Protocol):
    """Where a source puts what it found; it counts and keeps, so that a source only reads and maps.

    Nothing of it waits: a slow bus must not stop a source.
    """

    def emit(self, measurement: Measurement) -> None:
        """Take one measurement.

        Raises:
            Rejected: its slice is not known, or its values are implausible; `reject` its origin and go on.
        """
        ...

    def reject(self, data: bytes, *, subject: str, error: Rejected) -> None:
        """Count input that is no measurement, and keep some of it; `subject` says where it came from."""
        ...

    def up(self, is_up: bool) -> None:
        """Note whether what the source asks or hears answers."""
        ...

    def took(self, seconds: float) -> None:
        """Note how long one poll took, or the handling of one message."""
        ...

    def hint(self, text: str) -> None:
        """Say to the operator what is odd about this source, once for each text."""
        ...


class Source(Protocol):
    """One way to get measurements."""

    @property
    def name(self) -> str:
        """Return the word that names this source in telemetry, metrics and logs."""
        ...

    async def run(self, sink: Sink) -> None:
        """Measure for ever; an error, or an end, makes the collector start it anew after a while.

        Raises:
            TemporaryError: what it asks or hears cannot be reached.
            ConfigError: a file that the settings name cannot be used.
        """
        ...


def take(read: Callable[[], Iterable[Measurement | Rejected]], sink: Sink, data: bytes, *, subject: str) -> None:
    """Give the sink what `read` makes of `data`, which was pushed; not even a bug costs the next message."""
    began = time.perf_counter()
    try:
        _hand_over(read(), sink, data, subject)
    except Exception as error:
        structlog.get_logger("microopt.collector").exception("message_not_handled", subject=subject)
        sink.reject(data, subject=subject, error=Rejected("error", f"cannot be handled: {error!r}"))
    sink.took(time.perf_counter() - began)


def _hand_over(found: Iterable[Measurement | Rejected], sink: Sink, data: bytes, subject: str) -> None:
    for item in found:
        try:
            if isinstance(item, Rejected):
                raise item
            sink.emit(item)
        except Rejected as error:
            sink.reject(data, subject=subject, error=error)
