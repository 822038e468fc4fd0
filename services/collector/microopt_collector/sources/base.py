"""What the collector asks of everything that it can measure slices with."""

from typing import Protocol

from msgspec import Struct


class Measurement(Struct, frozen=True, kw_only=True):
    """What one source said of one slice at one instant; `None` is unknown.

    `time_s` is seconds since the Unix epoch, `qos` is in the unit of the slice's SLA.
    """

    slice: str
    time_s: float
    users: float | None
    qos: float | None
    source: str


class Sink(Protocol):
    """Where a source puts what it found; it counts and keeps, so that a source only reads and maps."""

    async def emit(self, measurement: Measurement) -> None:
        """Take one measurement.

        Raises:
            PermanentError: its slice is not known; `reject` what it was made from and go on.
        """
        ...

    async def reject(self, data: bytes, *, subject: str, error: Exception) -> None:
        """Keep input that is no measurement for inspection; `subject` says where it came from."""
        ...


class Source(Protocol):
    """One way to get measurements."""

    @property
    def name(self) -> str:
        """Return the word that names this source in telemetry, metrics and logs."""
        ...

    async def run(self, sink: Sink) -> None:
        """Measure for ever; an error, or an end, makes the collector start it anew after a while."""
        ...
