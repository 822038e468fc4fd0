"""The days before the demo, as telemetry that the forecaster can learn from."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from microopt import codec, subjects
from microopt.bus import MSG_ID, Bus
from microopt.errors import ConfigError
from microopt.messages import Telemetry
from microopt_testbed.emulator_agent import EmulatorSettings, history

BATCH: Final = 500
SOURCE: Final = "history"


def samples(settings: EmulatorSettings, days: int) -> list[Telemetry]:
    """Return the users of the `days` before the first slot, oldest first.

    QoS is unknown for them: nobody had measured it.
    """
    found = [
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
    return sorted(found, key=lambda sample: (sample.time, sample.slice))


async def tell(bus: Bus, settings: EmulatorSettings, days: int, told: asyncio.Event) -> None:
    """Store the days before the first slot: the past at once, which sets `told`, the rest as it comes to pass."""
    coming = samples(settings, days)
    while past := [sample for sample in coming[:BATCH] if sample.time <= datetime.now(UTC)]:
        await asyncio.gather(*[await _store(bus, sample) for sample in past])
        coming = coming[len(past) :]
    told.set()
    for sample in coming:
        await asyncio.sleep((sample.time - datetime.now(UTC)).total_seconds())
        await bus.publish(sample)


async def wait_until_told(told: asyncio.Event, telling: asyncio.Task[None], *, before_s: float) -> None:
    """Wait until the past is told, at the latest at the Unix time `before_s`.

    Raises:
        ConfigError: it is not.
    """
    waiting = asyncio.create_task(told.wait())
    try:
        pause_s = max(0.0, before_s - time.time())
        await asyncio.wait({waiting, telling}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if not told.is_set():
        if telling.done():
            await telling  # it failed, and says why
        raise ConfigError("this machine is too slow for this pace, or busy; use longer slots and intervals")


async def _store(bus: Bus, sample: Telemetry) -> asyncio.Future[object]:
    headers = {MSG_ID: sample.message_id}
    return await bus.js.publish_async(subjects.of(sample), codec.encode(sample), headers=headers)  # type: ignore[return-value]
