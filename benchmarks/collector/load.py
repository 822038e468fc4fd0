"""A process that says measurements at a given rate: `python load.py nats|mqtt ADDRESS RATE SECONDS SLICES SLOT_S`.

Each message falls into a slot of its own. Its standard output is how many were said.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import nats
import paho.mqtt.client as paho

TICK_S = 0.005
IN_FLIGHT = 1000

Say = Callable[[int, bytes], Awaitable[object]]


async def pace(say: Say, rate: float, seconds: float, slices: int, slot_s: float) -> int:
    """Say message n at n / rate, with the middle of its slot as its time."""
    first = int(time.time() / slot_s) + 1
    await asyncio.sleep(first * slot_s - time.time())
    said, total = 0, int(rate * seconds)
    while said < total:
        due = min(total, int((time.time() - first * slot_s) * rate))
        while said < due:
            slice_, round_ = said % slices + 1, said // slices
            stamp = (first + round_ + 0.5) * slot_s
            await say(
                slice_,
                b'{"snssai":"1-%06x","timestamp":%.6f,"ues":3,"dl_thpt_per_ue_mbps":4.5}' % (slice_, stamp),
            )
            said += 1
        await asyncio.sleep(TICK_S)
    return said


async def by_nats(address: str, *pacing: float) -> int:
    client = await nats.connect(address)
    said = await pace(lambda n, data: client.publish(f"testbed.measurement.{n}", data), *pacing)
    await client.drain()
    return said


async def by_mqtt(address: str, *pacing: float) -> int:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(IN_FLIGHT)
    client.connect("127.0.0.1", int(address))
    client.loop_start()
    last = []

    async def say(n: int, data: bytes) -> None:
        told = client.publish(f"slice/{n}/kpi", data, qos=1)
        if told.rc != paho.MQTT_ERR_QUEUE_SIZE:  # 65,535 are under way: it is lost, and the rate not sustained
            last[:] = [told]

    said = await pace(say, *pacing)
    await asyncio.to_thread(last[0].wait_for_publish, 30.0)
    client.disconnect()
    client.loop_stop()
    return said


if __name__ == "__main__":
    kind, address, rate, seconds, slices, slot_s = sys.argv[1:]
    by = {"nats": by_nats, "mqtt": by_mqtt}[kind]
    sys.stdout.write(f"{asyncio.run(by(address, float(rate), float(seconds), int(slices), float(slot_s)))}\n")
