"""What the bus holds of a slice: its spec, its forecasts and its telemetry."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from nats.js.errors import NotFoundError

from microopt import codec, desired, streams, subjects
from microopt.bus import Bus
from microopt.errors import ConfigError, InvalidMessageError
from microopt.messages import Forecast, Telemetry
from microopt.replay import last_sequence, replay
from microopt.specs import SliceSpec
from microopt_forecaster.schedule import Schedule
from microopt_forecaster.show.notes import LeftOut, notes
from microopt_forecaster.show.observed import Observed
from microopt_forecaster.show.rows import Report, rows, summarize

T = TypeVar("T", Telemetry, Forecast)

MOST: Final = 1000
"""Intervals that can be shown; the stream keeps as many forecasts of a slice."""
CLOCKS_S: Final = 3600.0
"""How much earlier than a slot's time the server's clock may have stored it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Forecasts:
    """The stored forecasts of one slice, by interval; of two for the same one, the later word counts."""

    def __init__(self, spec: SliceSpec) -> None:
        self.schedule = Schedule(spec.interval_s, lead_s=0.0)
        self.newest: Forecast | None = None
        self.of: dict[int, Forecast] = {}
        self.other_intervals = 0
        self._length = timedelta(seconds=spec.interval_s)

    def note(self, forecast: Forecast) -> None:
        """Take one forecast."""
        if timedelta(seconds=forecast.interval.duration_s) != self._length:
            self.other_intervals += 1
            return
        self.newest = forecast
        self.of[self.schedule.number(forecast.interval.start.timestamp())] = forecast


async def gather(bus: Bus, slice: str, now: datetime, *, last: int, start: datetime | None) -> Report:
    """Return the `last` intervals of `slice`, or those from the one that holds `start` on, as they look at `now`.

    Raises:
        ConfigError: there is no such slice, no forecast of it, or there are more intervals than can be shown.
        InvalidMessageError: the slice's spec cannot be used.
        TemporaryError: a message was lost on its way.
    """
    spec = await _spec(bus, slice)
    forecasts, observed = Forecasts(spec), Observed(spec)
    unreadable = await _read(bus, streams.FORECASTS, Forecast, slice, 1, forecasts.note)
    newest_slot = await _newest_slot(bus, slice)
    if (newest := forecasts.newest) is None:
        raise ConfigError(_nothing_yet(spec, forecasts, newest_slot))
    numbers = _numbers(forecasts, newest_slot, last, start)
    unreadable += await _observe(bus, slice, observed, numbers)
    shown = rows(numbers, forecasts.of, observed, now)
    left_out = LeftOut(unreadable, forecasts.other_intervals, observed.other_slots)
    return Report(
        slice=slice,
        interval_s=spec.interval_s,
        slot_s=spec.slot_s,
        slots=observed.slots,
        forecast_model=spec.forecast_model,
        model=newest.model,
        made_at=newest.made_at,
        bands=newest.bands,
        rows=shown,
        summary=summarize(shown),
        notes=notes(newest, shown, left_out, now),
    )


async def _observe(bus: Bus, slice: str, observed: Observed, numbers: range) -> int:
    """Read the telemetry of the intervals `numbers`, and return how many messages cannot be read."""
    begin, end = observed.schedule.start(numbers[0]), observed.schedule.start(numbers[-1] + 1)

    def take(slot: Telemetry) -> None:
        if begin <= slot.time < end:
            observed.note(slot)

    since = max(begin - timedelta(seconds=CLOCKS_S), _EPOCH)  # a slot is stored after its time
    return await _read(bus, streams.TELEMETRY, Telemetry, slice, since, take)


async def _spec(bus: Bus, slice: str) -> SliceSpec:
    spec = await desired.get(bus, SliceSpec, slice)
    if spec is None:
        known, _ = await desired.get_all(bus, SliceSpec)
        raise ConfigError(f"unknown slice {slice!r}; slices: {', '.join(known) or 'none, see `microopt apply`'}")
    return spec


def _nothing_yet(spec: SliceSpec, forecasts: Forecasts, newest_slot: Telemetry | None) -> str:
    if forecasts.other_intervals:
        return (
            f"no forecast of slice {spec.slice} for intervals of {spec.interval_s:g} s yet; the "
            f"{forecasts.other_intervals:,} that are stored are for others, of a former spec"
        )
    if newest_slot is None:
        return (
            f"no forecast of slice {spec.slice} yet, and no telemetry to make one of: is the collector running, "
            "and does it hear the slice? Or bring its history with `microopt dataset import`"
        )
    return (
        f"no forecast of slice {spec.slice} yet: one needs telemetry of three intervals of {spec.interval_s:g} s, "
        f"and a forecaster that runs; the newest slot is {newest_slot.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    )


def _numbers(forecasts: Forecasts, newest_slot: Telemetry | None, last: int, start: datetime | None) -> range:
    """Return which intervals are shown: up to the last that was forecast, or observed."""
    end = max(forecasts.of)
    if newest_slot is not None:
        end = max(end, forecasts.schedule.number(newest_slot.time.timestamp()))
    if start is None:
        return range(end - last + 1, end + 1)
    first = forecasts.schedule.number(start.timestamp())
    if first > end:
        raise ConfigError(
            f"--from {start.isoformat()}: nothing is known of later than "
            f"{forecasts.schedule.start(end + 1):%Y-%m-%d %H:%M:%S} UTC"
        )
    if end - first >= MOST:
        raise ConfigError(
            f"--from {start.isoformat()}: that is {end - first + 1:,} intervals, of at most {MOST:,}"
        )
    return range(first, end + 1)


async def _read(
    bus: Bus, stream: str, kind: type[T], slice: str, start: int | datetime, take: Callable[[T], None]
) -> int:
    """Hand what is stored of `slice` to `take`, and return how many messages cannot be read."""
    unreadable = 0
    subject, last = subjects.ALL[kind].replace("*", slice), await last_sequence(bus, stream)
    async for messages in replay(bus, stream, subject, start=start, last=last):
        for message in messages:
            try:
                take(codec.decode(message.data, kind, origin=message.subject))
            except InvalidMessageError:
                unreadable += 1
    return unreadable


async def _newest_slot(bus: Bus, slice: str) -> Telemetry | None:
    """Return the slot that was stored last, or None when there is none that can be read."""
    subject = subjects.ALL[Telemetry].replace("*", slice)
    try:
        message = await bus.js.get_last_msg(streams.TELEMETRY, subject)
        return codec.decode(message.data or b"", Telemetry, origin=subject)
    except (NotFoundError, InvalidMessageError):
        return None
