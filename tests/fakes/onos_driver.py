"""The driver `onos` on the fake: its flows, and how a process would open it."""

from contextlib import asynccontextmanager

from fakes.onos import PASSWORD
from microopt.settings import Settings
from microopt_actuator.drivers import onos
from microopt_actuator.settings import ActuatorSettings

DEVICE = "of:0000000000000050"
OTHER = "of:0000000000000051"
ADDRESS = {"ipv4_src": "10.10.3.1/32"}
QUEUES = [{"id": 3, "mbps": 40}, {"id": 1, "mbps": 5}, {"id": 2, "mbps": 10}]
FLOWS = {
    "metered": {"device": DEVICE, "selector": ADDRESS},
    "second": {"device": DEVICE, "selector": {"ipv4_src": "10.10.3.2/32"}},
    "queued": {"device": DEVICE, "selector": {"ipv4_src": "10.10.3.3/32"}, "queues": QUEUES},
    "elsewhere": {"device": OTHER, "selector": ADDRESS},
}


class Onos:
    """Settings of the driver for a fake, with a password file in `folder`."""

    def __init__(self, fake, folder):
        self.password_file = folder / "onos"
        self.password_file.write_text(f"{PASSWORD}\n")
        self._table = {"url": fake.url, "password_file": str(self.password_file), "flows": FLOWS, "confirm_s": 5.0}

    @asynccontextmanager
    async def opened(self, **changes):
        table = {"onos": {**self._table, **changes}}
        settings = Settings({"actuator": table}, "test").table("actuator", ActuatorSettings)
        async with onos.opened(settings, None) as driver:
            yield driver


async def put(driver, target, value):
    write = await driver.plan(target, value)
    await driver.apply(write)
    return write


async def holds(driver, target, value):
    write = await put(driver, target, value)
    return write.is_held_by(await driver.read(target))
