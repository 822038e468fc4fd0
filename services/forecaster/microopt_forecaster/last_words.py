"""What the bus holds last of a slice: where reading must have come to, and what was forecast already."""

from datetime import UTC, datetime
from typing import TypeVar

from nats.js.errors import NotFoundError

from microopt import codec
from microopt.bus import Bus
from microopt.errors import InvalidMessageError
from microopt.messages import Forecast, Telemetry
from microopt.streams import STREAM_OF
from microopt.subjects import ALL

M = TypeVar("M", Telemetry, Forecast)


async def telemetry_end(bus: Bus, slice: str) -> datetime | None:
    """Return the time of the last telemetry of `slice`, or None when there is none.

    A last one that cannot be decoded, or lies in the future, is never taken; then only what is measured from now
    on shows that everything before was handled.
    """
    now = datetime.now(UTC)
    try:
        last = await _last(bus, Telemetry, slice)
    except InvalidMessageError:
        return now
    return None if last is None else min(last.time, now)


async def last_forecast(bus: Bus, slice: str) -> Forecast | None:
    """Return the last forecast of `slice`, or None when there is none that can be read."""
    try:
        return await _last(bus, Forecast, slice)
    except InvalidMessageError:
        return None


async def _last(bus: Bus, kind: type[M], slice: str) -> M | None:
    subject = ALL[kind].replace("*", slice)
    try:
        message = await bus.js.get_last_msg(STREAM_OF[kind], subject)
    except NotFoundError:
        return None
    return codec.decode(message.data or b"", kind, origin=subject)
