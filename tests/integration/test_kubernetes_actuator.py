"""The actuator over the driver `kubernetes`: from an allocation to a kubelet, and to the next pod."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from click.testing import CliRunner

from fakes.kubernetes import FakeKubernetes
from microopt import streams
from microopt.messages import Actuation, Allocation, Interval
from microopt.settings import Settings
from microopt.testing import eventually, running
from microopt_actuator import agent as actuator
from microopt_actuator.cli import actuator as actuator_command

SLICE, CPU = "1-000001", "gnb_cpu"
BINDING = {"slice": "*", "resource": CPU, "driver": "kubernetes", "target": "core/app=upf,slice={slice}/upf"}


@pytest.fixture
async def cluster():
    async with FakeKubernetes().serving() as it:
        yield it


@pytest.fixture
def table(cluster, tmp_path):
    """Return the settings [actuator]."""
    return {
        "bindings": [BINDING],
        "check_every_s": 0.1,
        "kubernetes": {"kubeconfig": str(cluster.kubeconfig(tmp_path)), "timeout_s": 5.0},
    }


@asynccontextmanager
async def actuating(broker, table):
    async with running(actuator.build(Settings({"actuator": table}, "test")), broker.url) as process:
        yield process


def allocation(value):
    now = datetime.now(UTC)
    return Allocation(
        slice=SLICE,
        pool="edge",
        epoch=1,
        interval=Interval(now, 3600.0),
        values={CPU: value},
        valid_until=now + timedelta(hours=1),
        optimizer="microopt",
        status="optimal",
    )


async def states(bus):
    info = await bus.js.stream_info(streams.ACTUATIONS)
    messages = [await bus.js.get_msg(streams.ACTUATIONS, seq) for seq in range(1, info.state.last_seq + 1)]
    return [msgspec.json.decode(message.data, type=Actuation).state for message in messages]


async def reported(bus, *expected):
    async def probe():
        return await states(bus) == list(expected)

    await eventually(probe, what=str(expected), within_s=20)


def limit_of(pod):
    return pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"]


async def test_an_allocation_is_applied_verified_and_applied_again_when_the_pod_is_new(
    broker, bus, cluster, table, make_pool, make_slice
):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    await bus.put_spec(streams.SLICES, SLICE, make_slice())
    first = cluster.add("upf-6d5f", app="upf", slice=SLICE)
    cluster.kubelet.delay_s = 0.05
    async with actuating(broker, table):
        await bus.publish(allocation(1500.0))
        await reported(bus, "applied", "verified")
        assert limit_of(first) == "1500m"
        cluster.remove("upf-6d5f")
        second = cluster.add("upf-9c1b", app="upf", slice=SLICE)
        await reported(bus, *["applied", "verified"] * 2)
        assert limit_of(second) == "1500m"
    assert len(cluster.patches()) == 2


async def test_a_pod_that_is_gone_for_a_while_is_limited_once_it_is_back(
    broker, bus, cluster, table, make_pool, make_slice
):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    await bus.put_spec(streams.SLICES, SLICE, make_slice())
    async with actuating(broker, table):
        await bus.publish(allocation(1500.0))
        await reported(bus, "failed")
        pod = cluster.add(app="upf", slice=SLICE)
        await reported(bus, "failed", "applied", "verified")
    assert limit_of(pod) == "1500m"


async def test_a_restart_of_the_actuator_patches_nothing(broker, bus, cluster, table, make_pool, make_slice):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    await bus.put_spec(streams.SLICES, SLICE, make_slice())
    cluster.add(app="upf", slice=SLICE)
    async with actuating(broker, table):
        await bus.publish(allocation(1500.0))
        await reported(bus, "applied", "verified")
    async with actuating(broker, table):
        await reported(bus, "applied", "verified", "verified")
    assert len(cluster.patches()) == 1


async def test_the_check_says_what_a_pod_has_and_what_the_resize_would_be(
    broker, bus, cluster, table, make_pool, make_slice, tmp_path
):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    await bus.put_spec(streams.SLICES, SLICE, make_slice())
    pod = cluster.add(app="upf", slice=SLICE)
    async with actuating(broker, table):
        await bus.publish(allocation(1500.0))
        await reported(bus, "applied", "verified")
    cluster.remove("upf-0")
    pod = cluster.add(app="upf", slice=SLICE)
    config = tmp_path / "microopt.yaml"
    config.write_bytes(msgspec.yaml.encode({"actuator": table, "nats": {"url": broker.url}}))
    done = await asyncio.to_thread(CliRunner().invoke, actuator_command, ["check", "--config", str(config)])
    assert done.output.splitlines()[:6] == [
        f"slice {SLICE}",
        f"  ✓ {CPU}: kubernetes core/app=upf,slice={SLICE}/upf",
        "      in force    1000 millicores",
        "      writable    yes",
        "      allocated   1500 millicores",
        "      would write kubectl -n core patch pod upf-0 --subresource resize --patch "
        '\'{"spec":{"containers":[{"name":"upf","resources":{"requests":{"cpu":"100m"},'
        '"limits":{"cpu":"1500m"}}}]}}\'',
    ]
    assert done.exit_code == 0
    assert limit_of(pod) == "1"
    cluster.allowed.discard("patch pods/resize")
    done = await asyncio.to_thread(CliRunner().invoke, actuator_command, ["check", "--config", str(config)])
    assert f"      writable    no: kubernetes core/app=upf,slice={SLICE}/upf: our account cannot" in done.output
    assert done.exit_code == 1
