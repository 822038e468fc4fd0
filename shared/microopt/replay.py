"""Reading what a stream holds of one subject, once, without following it."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from microopt.bus import Bus
from microopt.errors import TemporaryError

BATCH: Final = 1000
FETCH_S: Final = 5.0
INACTIVE_S: Final = 60.0


async def last_sequence(bus: Bus, stream: str) -> int:
    """Return the sequence of the newest message that `stream` holds or held."""
    return (await bus.js.stream_info(stream)).state.last_seq


async def replay(
    bus: Bus, stream: str, subject: str, *, start: int | datetime, last: int
) -> AsyncGenerator[list[Msg], None]:
    """Yield batches of the messages of `subject`, in order, up to sequence `last`.

    They begin with sequence `start`, or with the first that was stored at that time.

    Raises:
        TemporaryError: a message was lost on its way, as when the connection was cut.
        nats.errors.Error: the server is gone.
    """
    pull = await bus.js.pull_subscribe(subject, stream=stream, config=_config(start))
    info = await pull.consumer_info()
    waiting, read = info.num_pending or 0, 0
    try:
        while waiting:
            messages = await _fetch(pull, min(waiting, BATCH))
            if not messages:
                return
            read += len(messages)
            if messages[-1].metadata.sequence.consumer != read:  # what is lost does not come again
                raise TemporaryError(f"{subject}: a message was lost on its way from the server; try again")
            waiting = messages[-1].metadata.num_pending
            if messages[-1].metadata.sequence.stream >= last:
                yield [message for message in messages if message.metadata.sequence.stream <= last]
                return
            yield messages
    finally:
        await pull.unsubscribe()
        await bus.js.delete_consumer(stream, info.name)


def _config(start: int | datetime) -> ConsumerConfig:
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=INACTIVE_S, mem_storage=True)
    if isinstance(start, datetime):
        config.deliver_policy, config.opt_start_time = DeliverPolicy.BY_START_TIME, start
    else:
        config.deliver_policy, config.opt_start_seq = DeliverPolicy.BY_START_SEQUENCE, max(1, start)
    return config


async def _fetch(pull: JetStreamContext.PullSubscription, batch: int) -> list[Msg]:
    """Return up to `batch` messages; none where the server has removed those that were still waiting."""
    try:
        return await pull.fetch(batch, timeout=FETCH_S)
    except nats.errors.TimeoutError:
        if (await pull.consumer_info()).num_pending == 0:
            return []
        raise
