"""Reading what a stream holds of one subject, once, without following it."""

from collections.abc import AsyncIterator
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from microopt.bus import Bus

BATCH: Final = 500
FETCH_S: Final = 2.0
INACTIVE_S: Final = 30.0


async def last_sequence(bus: Bus, stream: str) -> int:
    """Return the sequence of the newest message that `stream` holds or held."""
    return (await bus.js.stream_info(stream)).state.last_seq


async def replay(bus: Bus, stream: str, subject: str, first: int, last: int) -> AsyncIterator[Msg]:
    """Yield the messages of `subject` from sequence `first` to `last`, both included, in order.

    Raises:
        nats.errors.Error: the server is gone; begin again after the last that came.
    """
    if first > last:
        return
    config = ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=max(1, first),
        inactive_threshold=INACTIVE_S,
    )
    pull = await bus.js.pull_subscribe(subject, stream=stream, config=config)
    try:
        waiting = (await pull.consumer_info()).num_pending or 0
        while waiting:
            try:
                messages = await pull.fetch(min(BATCH, waiting), timeout=FETCH_S)
            except nats.errors.TimeoutError:  # what was waiting has been removed meanwhile
                waiting = (await pull.consumer_info()).num_pending or 0
                continue
            for message in messages:
                if message.metadata.sequence.stream > last:
                    return
                yield message
            waiting = messages[-1].metadata.num_pending
    finally:
        await pull.unsubscribe()
