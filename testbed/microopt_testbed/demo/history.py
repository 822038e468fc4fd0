"""The days before the demo, as telemetry that the forecaster can learn from."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from microopt import codec, subjects
from microopt.bus import MSG_ID, Bus
from microopt.messages import Telemetry
from microopt_testbed.emulator_agent import EmulatorSettings, history

BATCH: Final = 500
SOURCE: Final = "history"


async def publish(bus: Bus, settings: EmulatorSettings, days: int) -> int:
    """Store the users of the `days` before the first slot, and return how many slots that were.

    QoS is unknown for them: nobody had measured it.
    """
    samples = [
        Telemetry(
            slice=name,
            time=datetime.fromtimestamp(time_s, UTC),
            slot_s=settings.slot_s,
            users=float(users),
            qos=None,
            source=SOURCE,
            quality="partial",
        )
        for name, slots in history(settings, days).items()
        for time_s, users in slots
    ]
    for first in range(0, len(samples), BATCH):
        waiting = [await _store(bus, sample) for sample in samples[first : first + BATCH]]
        await asyncio.gather(*waiting)
    return len(samples)


async def _store(bus: Bus, sample: Telemetry) -> asyncio.Future[object]:
    headers = {MSG_ID: sample.message_id}
    return await bus.js.publish_async(subjects.of(sample), codec.encode(sample), headers=headers)  # type: ignore[return-value]
