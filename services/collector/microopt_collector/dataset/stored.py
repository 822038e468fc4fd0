"""Reading the telemetry of one slice that the bus keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from microopt import codec, streams, subjects
from microopt.bus import Bus
from microopt.errors import InvalidMessageError, TemporaryError
from microopt.messages import Telemetry

Take = Callable[[Telemetry, bytes], None]

CLOCKS_S: Final = 3600.0
"""How much earlier than a slot's time the server's clock may have stored it."""

BATCH: Final = 1000
FETCH_S: Final = 5.0
INACTIVE_S: Final = 60.0

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
    last = (await bus.js.stream_info(streams.TELEMETRY)).state.last_seq
    pull = await _open(bus, slice, since)
    name = (info := await pull.consumer_info()).name
    waiting = info.num_pending or 0
    try:
        while waiting:
            for message in (messages := await _fetch(pull, min(waiting, BATCH))):
                _take(message, slice, take, result)
            if not messages or messages[-1].metadata.sequence.stream >= last:
                break
            waiting = messages[-1].metadata.num_pending
            progress(result.read)
    finally:
        await pull.unsubscribe()
        await bus.js.delete_consumer(streams.TELEMETRY, name)
    return result


async def _open(bus: Bus, slice: str, since: datetime) -> JetStreamContext.PullSubscription:
    config = ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=max(since - timedelta(seconds=CLOCKS_S), _EPOCH),
        inactive_threshold=INACTIVE_S,
        mem_storage=True,
    )
    subject = subjects.ALL[Telemetry].replace("*", slice)
    return await bus.js.pull_subscribe(subject, stream=streams.TELEMETRY, config=config)


async def _fetch(pull: JetStreamContext.PullSubscription, batch: int) -> list[Msg]:
    """Return up to `batch` messages; none where the server has removed those that were still waiting."""
    try:
        return await pull.fetch(batch, timeout=FETCH_S)
    except nats.errors.TimeoutError:
        if (await pull.consumer_info()).num_pending == 0:
            return []
        raise


def _take(message: Msg, slice: str, take: Take, result: Reading) -> None:
    result.read += 1
    if message.metadata.sequence.consumer != result.read:  # what is lost on its way does not come again
        raise TemporaryError(f"telemetry of slice {slice} was lost on its way from the server; try again")
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
