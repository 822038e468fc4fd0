"""Kill -9 of the actuator at any point leaves the old or the new value, and a restart repairs it."""

import asyncio
import os
import random
import time

import pytest

from microopt.cancel import cancel
from microopt.specs import Bounds
from microopt.testing import eventually
from real.actuator import BANDWIDTH, BOUNDS, CPU, ONE, allocate, bound, last_report, put_pool, put_slice

pytestmark = pytest.mark.root

ROUNDS = 8
LONGEST_S = 0.3
BACKHAUL = "backhaul_bandwidth"
VALUES = (
    {CPU: 600.0, BANDWIDTH: 10.0, BACKHAUL: 12.0},
    {CPU: 1500.0, BANDWIDTH: 30.0, BACKHAUL: 40.0},
)
QUEUE = 123


class Kernel:
    """What is in force of the slice's three resources, in the kernel and in Open vSwitch's database."""

    def __init__(self, cgroup, htb, switch) -> None:
        self.cgroup = cgroup
        self.htb = htb
        self.switch = switch

    def values(self) -> dict[str, float]:
        row = self.switch.config("v0", QUEUE)
        rates = {int(row[key]) / 1e6 for key in ("min-rate", "max-rate")}
        assert len(rates) == 1, f"a half-done change: {row}"
        return {CPU: self.cgroup.millicores(), BANDWIDTH: self.htb.mbps(), BACKHAUL: rates.pop()}

    def queue(self) -> float:
        """Return what the kernel has of the queue; ovs-vswitchd makes it follow the database."""
        rate, ceil = self.switch.classes("v0")[QUEUE]
        assert rate == ceil
        return float(rate.removesuffix("Mbit"))

    async def has(self, values: dict[str, float]) -> bool:
        return await asyncio.to_thread(self.values) == values and self.queue() == values[BACKHAUL]


@pytest.fixture
def kernel(cgroup_of, htb, switch):
    switch.add_port("v0")
    switch.shape("v0", QUEUE)
    return Kernel(cgroup_of("kill"), htb, switch)


@pytest.fixture
def process(kernel, actuator_process):
    return actuator_process(
        bound(CPU, "cgroup", kernel.cgroup.target),
        bound(BANDWIDTH, "tc", kernel.htb.target),
        bound(BACKHAUL, "ovs", f"v0/{QUEUE}"),
        ovs={"remote": kernel.switch.remote},
    )


class Router:
    """Allocates the two sets of values in turns."""

    def __init__(self, bus) -> None:
        self.epoch = 0
        self._bus = bus

    @property
    def values(self) -> dict[str, float]:
        """Return what was allocated last."""
        return VALUES[self.epoch % 2]

    async def allocate(self) -> None:
        self.epoch += 1
        await allocate(self._bus, self.epoch, self.values)

    async def go_on(self, rng: random.Random) -> None:
        while True:
            await self.allocate()
            await asyncio.sleep(rng.uniform(0.02, 0.05))

    async def is_verified(self) -> bool:
        last = [await last_report(self._bus, ONE, resource) for resource in VALUES[0]]
        return all(one is not None and (one.epoch, one.state) == (self.epoch, "verified") for one in last)


async def test_kill_9_at_any_time_leaves_the_old_or_the_new_value_and_a_restart_repairs_it(bus, kernel, process):
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")  # noqa: T201 - to be set when it failed
    rng = random.Random(seed)
    router = Router(bus)
    await put_pool(bus, **{BACKHAUL: "Mbit/s"})
    await put_slice(bus, bounds={**BOUNDS, BACKHAUL: Bounds(1.0, 90.0)})
    await router.allocate()
    for round_ in range(ROUNDS):
        begun = time.monotonic()
        await process.start()
        started = time.monotonic()
        await eventually(router.is_verified, what=f"epoch {router.epoch} verified")
        told = f"started in {started - begun:.1f} s, verified in {time.monotonic() - started:.1f} s"
        print(f"round {round_}, epoch {router.epoch}: {told}")  # noqa: T201 - where the time went when it failed
        assert await kernel.has(router.values)
        allocating = asyncio.create_task(router.go_on(rng))
        await asyncio.sleep(rng.uniform(0.0, LONGEST_S))
        await process.kill()
        await cancel([allocating])
        left = await asyncio.to_thread(kernel.values)
        for resource, value in left.items():
            assert value in {values[resource] for values in VALUES}, (resource, value)
        await eventually(
            lambda left=left: kernel.queue() == left[BACKHAUL], what="the switch follows its database"
        )
    await process.start()
    await eventually(router.is_verified, what=f"epoch {router.epoch} verified")
    assert await kernel.has(router.values)
