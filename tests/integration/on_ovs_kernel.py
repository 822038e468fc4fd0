"""The driver `ovs` on the datapath in the kernel; test_second_kernel.py makes such a place and runs this."""

import pytest

from microopt.settings import Settings
from microopt.testing import eventually
from microopt_actuator.drivers import ovs
from microopt_actuator.settings import ActuatorSettings
from real.switch import BRIDGE, Switch, Transfer, run

RECEIVER, SENDER, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@pytest.fixture
def switch(tmp_path):
    made = Switch(tmp_path, "switch")
    try:
        made.start("system")
        yield made
    finally:
        made.stop()


@pytest.fixture
async def driver(switch):
    settings = Settings({"actuator": {"ovs": {"remote": switch.remote}}}, "test")
    async with ovs.opened(settings.table("actuator", ActuatorSettings), None) as opened:
        yield opened


async def put(driver, target, value):
    await driver.apply(await driver.plan(target, value))
    assert await driver.read(target) == value


async def gets(transfer, at_least, at_most):
    await eventually(
        lambda: at_least < transfer.mbps(3.0) < at_most, within_s=60.0, what=f"below {at_most} Mbit/s"
    )


async def test_flows_that_choose_a_queue_get_its_rate(switch, driver):
    receiver = switch.add_host("v0", f"{RECEIVER}/24")
    first, second = switch.add_host("v1", f"{SENDER}/24"), switch.add_host("v2", f"{OTHER}/24")
    switch.shape("v0", 123, 124)
    for flow in ("in_port=v1,actions=set_queue:123,NORMAL", "in_port=v2,actions=set_queue:124,NORMAL"):
        switch.add_flow(f"priority=10,{flow}")
    await put(driver, "v0/123", 8.0)
    await put(driver, "port=v0-124", 2.0)
    assert switch.classes("v0") == {
        0: ("12Kbit", "100Mbit"),
        123: ("8Mbit", "8Mbit"),
        124: ("2Mbit", "2Mbit"),
    }
    with Transfer(first, receiver, RECEIVER) as transfer:
        await gets(transfer, 4.0, 8.4)
        await put(driver, "v0/123", 3.0)
        await gets(transfer, 1.5, 3.15)
    with Transfer(second, receiver, RECEIVER) as transfer:
        await gets(transfer, 1.0, 2.1)


async def test_a_queue_that_was_chosen_before_a_tunnel_holds_for_the_packets_that_leave(switch, driver):
    """As in the paper's testbed: flows choose a queue, a tunnel wraps them, and the physical port shapes."""
    far = switch.add_host("v0", "198.51.100.2/24")
    sender = switch.add_host("v1", f"{SENDER}/24")
    # Ports leave the bridge that the test's hosts are on for one of the physical network.
    switch.vsctl("del-port", "v0", "--", "add-br", "br1", "--", "add-port", "br1", "v0")
    switch.ip("address", "add", "198.51.100.1/24", "dev", "br1")
    switch.ip("link", "set", "br1", "up")
    tunnel = ("type=vxlan", "options:remote_ip=198.51.100.2", "options:key=7")
    switch.vsctl("add-port", BRIDGE, "vx0", "--", "set", "interface", "vx0", *tunnel)
    link = ("link", "add", "vx", "type", "vxlan", "id", "7", "dstport", "4789")
    run("ip", "-n", far, *link, "remote", "198.51.100.1", "dev", "v0-peer")
    run("ip", "-n", far, "address", "add", f"{RECEIVER}/24", "dev", "vx")
    run("ip", "-n", far, "link", "set", "vx", "up")
    switch.shape("v0", 123)
    switch.add_flow("priority=10,in_port=v1,actions=set_queue:123,NORMAL")
    await put(driver, "v0/123", 8.0)
    with Transfer(sender, far, RECEIVER) as transfer:
        await gets(transfer, 4.0, 8.4)
        await put(driver, "v0/123", 3.0)
        await gets(transfer, 1.5, 3.15)
