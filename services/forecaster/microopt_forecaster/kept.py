"""What the bus holds of a followed slice: its state in KV, and its last forecast."""

from typing import Final

import nats.errors
import structlog
from nats.js.errors import APIError, KeyNotFoundError, NotFoundError

from microopt import codec, streams
from microopt.bus import Bus
from microopt.errors import InvalidMessageError
from microopt.messages import Forecast
from microopt.subjects import ALL
from microopt_forecaster import checkpoint
from microopt_forecaster.checkpoint import Checkpoint
from microopt_forecaster.followed import FollowedSlice

LOST: Final = (nats.errors.Error, APIError)
_log = structlog.get_logger("microopt.forecaster")


async def save(bus: Bus, followed: FollowedSlice) -> None:
    """Keep the state of `followed`.

    Raises:
        nats.errors.Error: the server is gone or refuses it.
    """
    kv = await bus.js.key_value(streams.FORECASTER)
    await kv.put(followed.slice, codec.encode(checkpoint.take(followed)))


async def find(bus: Bus, slice: str) -> Checkpoint | None:
    """Return the state that was kept of `slice`, or None when there is none that can be read."""
    kv = await bus.js.key_value(streams.FORECASTER)
    try:
        entry = await kv.get(slice)
        return codec.decode(entry.value or b"", Checkpoint, origin=f"state of {slice}")
    except KeyNotFoundError:
        return None
    except InvalidMessageError as error:
        _log.warning("state_unreadable", slice=slice, error=str(error))
        return None


async def learn(bus: Bus, followed: FollowedSlice) -> None:
    """Take over what another replica learned, if that is more than is known here.

    Raises:
        nats.errors.Error: the server is gone.
    """
    state = await find(bus, followed.slice)
    if state is None or state.through is None:
        return
    if followed.outlook.through is not None and followed.outlook.through >= state.through:
        return
    try:
        checkpoint.restore_outlook(followed, state)
    except InvalidMessageError as error:
        _log.warning("state_unusable", slice=followed.slice, error=str(error))


async def last_forecast(bus: Bus, slice: str) -> Forecast | None:
    """Return the last forecast of `slice`, or None when there is none that can be read.

    The server knows a forecast's id for two minutes only; its last forecast says it for longer.
    """
    subject = ALL[Forecast].replace("*", slice)
    try:
        message = await bus.js.get_last_msg(streams.FORECASTS, subject)
        return codec.decode(message.data or b"", Forecast, origin=subject)
    except (NotFoundError, InvalidMessageError):
        return None
