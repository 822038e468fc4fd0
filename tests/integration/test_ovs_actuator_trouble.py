"""The actuator over Open vSwitch when answers are lost, or the switch's database begins anew."""

import asyncio
import contextlib
import re

import pytest

from microopt.testing import eventually
from real.actuator import (
    BANDWIDTH,
    CPU,
    ONE,
    TWO,
    actuating,
    allocate,
    bound,
    put_pool,
    put_slice,
    reaches,
    reports,
)
from real.switch import BRIDGE

pytestmark = pytest.mark.root

QUEUE = 123
ANSWER = re.compile(rb'"id":\d+')


class LossyProxy:
    """Stands before the switch's database; when told to, it loses the answer to a transaction and hangs up."""

    def __init__(self, switch) -> None:
        self.path = switch.folder / "lossy.sock"
        self.transactions = 0
        self.losing = False
        self._upstream = switch.folder / "db.sock"
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self):
        server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        loses = asyncio.Event()
        up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
        pumps = [
            asyncio.create_task(self._up(reader, up_writer, loses)),
            asyncio.create_task(self._down(up_reader, writer, loses)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in (writer, up_writer):
                one.transport.abort()
            self._tasks.discard(task)

    async def _up(self, reader, writer, loses) -> None:
        while data := await reader.read(1 << 16):
            if b'"transact"' in data:
                self.transactions += 1
                if self.losing:
                    self.losing = False
                    loses.set()
            writer.write(data)

    async def _down(self, reader, writer, loses) -> None:
        while data := await reader.read(1 << 16):
            if not loses.is_set():
                writer.write(data)
            elif ANSWER.search(data):
                return


@pytest.fixture
async def proxy(switch):
    async with LossyProxy(switch).serving() as one:
        yield one


@pytest.fixture
async def desired(bus, switch):
    switch.add_port("v0")
    switch.shape("v0", QUEUE)
    await put_pool(bus)
    for slice_ in (ONE, TWO):
        await put_slice(bus, slice_)


def next_cfg(switch) -> int:
    return int(switch.vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg"))


@pytest.mark.usefixtures("desired")
async def test_a_change_whose_answer_was_lost_is_found_done_and_not_made_again(broker, bus, switch, proxy):
    async with actuating(
        broker.url, bindings=[bound(BANDWIDTH, "ovs", f"v0/{QUEUE}")], ovs={"remote": f"unix:{proxy.path}"}
    ):
        await allocate(bus, 1, {BANDWIDTH: 20.0})
        await reaches(bus, 1, "verified", resource=BANDWIDTH)
        before, proxy.losing = next_cfg(switch), True
        await allocate(bus, 2, {BANDWIDTH: 30.0})
        report = await reaches(bus, 2, "verified", resource=BANDWIDTH)
        assert not proxy.losing
        assert report.observed == 30.0
        assert switch.classes("v0")[QUEUE] == ("30Mbit", "30Mbit")
        await asyncio.sleep(0.5)  # time for what must not happen
        assert (proxy.transactions, next_cfg(switch) - before) == (2, 1)
    failed = [r for r in await reports(bus, resource=BANDWIDTH) if r.state == "failed"]
    assert {r.epoch for r in failed} == {2}
    assert "what was under way may have been done or not" in failed[0].error


@pytest.mark.usefixtures("desired")
async def test_a_switch_whose_database_begins_anew_gets_its_rate_without_a_new_epoch(
    broker, bus, switch, cgroup_of
):
    cgroup = cgroup_of("cpu")
    bindings = [bound(BANDWIDTH, "ovs", f"v0/{QUEUE}"), bound(CPU, "cgroup", cgroup.target, TWO)]
    async with actuating(broker.url, bindings=bindings, ovs={"remote": switch.remote}):
        await allocate(bus, 1, {BANDWIDTH: 20.0})
        await allocate(bus, 1, {CPU: 1000.0}, slice_=TWO)
        await reaches(bus, 1, "verified", resource=BANDWIDTH)
        await reaches(bus, 1, "verified", slice_=TWO)
        for daemon in (switch.vswitchd, switch.ovsdb):
            await daemon.kill()
        await allocate(bus, 2, {CPU: 2000.0}, slice_=TWO)
        await reaches(bus, 2, "verified", slice_=TWO)
        assert cgroup.millicores() == 2000.0
        await reaches(bus, 1, "failed", resource=BANDWIDTH)

        switch.ovsdb.database.unlink()
        switch.create_database()
        await switch.ovsdb.start()
        await asyncio.to_thread(switch.vsctl, "--no-wait", "init")
        await switch.vswitchd.start()
        bridge = ("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")
        await asyncio.to_thread(switch.vsctl, *bridge, "--", "add-port", BRIDGE, "v0")
        await asyncio.to_thread(switch.shape, "v0", QUEUE)
        await reaches(bus, 1, "verified", resource=BANDWIDTH, times=2)
        await eventually(lambda: switch.classes("v0").get(QUEUE) == ("20Mbit", "20Mbit"))
        cgroup.limit(300.0)
        await eventually(lambda: cgroup.millicores() == 2000.0)
    assert {r.state for r in await reports(bus, TWO)} == {"applied", "verified"}
