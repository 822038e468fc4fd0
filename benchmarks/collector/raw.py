"""The bare clients: `python raw.py nats|mqtt NATS_URL [MQTT_PORT]` stores each message as it is in a stream.

As the collector does: JetStream acknowledges each, and many are in flight.
"""

import asyncio
import itertools
import sys

import aiomqtt
import nats
from nats.js import JetStreamContext

SUBJECT = "raw.telemetry"
SERIAL = itertools.count()


async def store(js: JetStreamContext, data: bytes) -> None:
    await js.publish_async(SUBJECT, data, headers={"Nats-Msg-Id": f"{next(SERIAL)}"})


async def by_nats(url: str) -> None:
    client = await nats.connect(url)
    js = client.jetstream()
    subscription = await client.subscribe("testbed.measurement.*")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async for message in subscription.messages:
        await store(js, message.data)


async def by_mqtt(url: str, port: str) -> None:
    js = (await nats.connect(url)).jetstream()
    async with aiomqtt.Client("127.0.0.1", int(port)) as client:
        await client.subscribe("slice/+/kpi", qos=1)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        async for message in client.messages:
            await store(js, message.payload)


if __name__ == "__main__":
    asyncio.run({"nats": by_nats, "mqtt": by_mqtt}[sys.argv[1]](*sys.argv[2:]))
