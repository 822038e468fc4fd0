"""Reading the telemetry of one slice that the bus keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from nats.aio.msg import Msg

from microopt import codec, streams, subjects
from microopt.bus import Bus
from microopt.errors import InvalidMessageError
from microopt.messages import Telemetry
from microopt.replay import last_sequence, replay

Take = Callable[[Telemetry, bytes], None]

CLOCKS_S: Final = 3600.0
"""How much earlier than a slot's time the server's clock may have stored it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_log = structlog.get_logger("microopt.dataset")


@dataclass
class Reading:
    """How many messages were read, and how many of them cannot be used."""

    read: int = 0
    invalid: int = 0


async def read(bus: Bus, slice: str, since: datetime, take: Take, progress: Callable[[int], None]) -> Reading:
    """Hand each stored telemetry of `slice` to `take` in the order of the stream, with its bytes; count the rest.

    What was stored since `since` is read, up to what is there when reading begins. A slot is stored after its
    time, so none of `since` or later is left out. Imported history is stored long after its time: the slots of a
    window may stand anywhere up to the end of the stream, and some that are handed over are older than `since`.

    Raises:
        TemporaryError: a message was lost, as when the connection was cut.
    """
    result = Reading()
    last = await last_sequence(bus, streams.TELEMETRY)
    subject = subjects.ALL[Telemetry].replace("*", slice)
    start = max(since - timedelta(seconds=CLOCKS_S), _EPOCH)
    async for messages in replay(bus, streams.TELEMETRY, subject, start=start, last=last):
        for message in messages:
            _take(message, slice, take, result)
        progress(result.read)
    return result


def _take(message: Msg, slice: str, take: Take, result: Reading) -> None:
    result.read += 1
    try:
        telemetry = codec.decode(message.data, Telemetry, origin=message.subject)
        if telemetry.slice != slice:
            raise InvalidMessageError(f"{message.subject}: holds telemetry of slice {telemetry.slice}")
    except InvalidMessageError as error:
        result.invalid += 1
        if result.invalid == 1:  # the rest are counted: a broken writer must not fill the terminal
            _log.warning("telemetry_not_read", sequence=message.metadata.sequence.stream, error=str(error))
    else:
        take(telemetry, message.data)
