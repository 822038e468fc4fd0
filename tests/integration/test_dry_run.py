"""`microopt actuator run --dry-run` as a process: it says what it would write; nothing is written or reported."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from nats.js.errors import NoKeysError

from fakes.kubernetes import FakeKubernetes
from fakes.onos import FakeOnos
from fakes.onos_driver import DEVICE, FLOWS, Onos
from fakes.systemd import QUOTA
from microopt import streams
from microopt.messages import Allocation, Interval
from microopt.specs import Bounds, PoolSpec, ResourceSpec, Sla, SliceSpec
from microopt.testing import eventually

SLICE = "1-000001"
COMMAND = "from microopt_actuator.cli import actuator; actuator()"


async def put_specs(bus, resource):
    unit = "Mbit/s" if resource == "transport_bandwidth" else "millicores"
    pool = PoolSpec(pool="edge", resources={resource: ResourceSpec(unit=unit, weight=1.0, capacity=9000.0)})
    await bus.put_spec(streams.POOLS, "edge", pool)
    bounds = {resource: Bounds(1.0, 4500.0)}
    sla = Sla(qos_threshold=4.0, degradation_threshold=0.1)
    spec = SliceSpec(slice=SLICE, pool="edge", sla=sla, bounds=bounds, model="embb")
    await bus.put_spec(streams.SLICES, SLICE, spec)


def allocation(epoch, resource, value):
    now = datetime.now(UTC)
    return Allocation(
        slice=SLICE,
        pool="edge",
        epoch=epoch,
        interval=Interval(now, 3600.0),
        values={resource: value},
        valid_until=now + timedelta(hours=1),
        optimizer="microopt",
        status="optimal",
    )


class DryRun:
    """The process, and the lines of its log."""

    def __init__(self, process):
        self.process = process
        self.lines = []

    @property
    def would_write(self):
        return [(line["has"], line["steps"]) for line in self.lines if line["event"] == "would_write"]

    async def follow(self):
        async for line in self.process.stderr:
            is_log = line.startswith(b"{")
            self.lines.append(json.loads(line) if is_log else {"event": line.decode(), "level": "critical"})


@contextlib.asynccontextmanager
async def running_dry(broker, folder, resource, target, **table):
    """Run the actuator over one binding, whose driver is the only one that `table` has settings of."""
    (driver,) = table
    binding = {"slice": SLICE, "resource": resource, "driver": driver, "target": target}
    settings = {"actuator": {"bindings": [binding], "check_every_s": 0.1, **table}, "nats": {"url": broker.url}}
    config = folder / "dry.yaml"
    config.write_bytes(msgspec.yaml.encode(settings))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, "run", "--dry-run", "--config", str(config)),
        env={**os.environ, "MICROOPT_HTTP_PORT": "0"},
        stderr=asyncio.subprocess.PIPE,
    )
    dry = DryRun(process)
    following = asyncio.create_task(dry.follow())
    try:
        yield dry
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(process.wait(), 20)
        await following
        assert status == 0, "".join(str(line["event"]) for line in dry.lines)


async def tells(broker, bus, folder, resource, target, values, **table):
    """Return what the actuator would write for one value after the other; it reports and keeps none of it."""
    await put_specs(bus, resource)
    async with running_dry(broker, folder, resource, target, **table) as dry:
        for epoch, value in enumerate(values, 1):
            await bus.publish(allocation(epoch, resource, value))
            await eventually(
                lambda epoch=epoch: len(dry.would_write) >= epoch, what=f"would_write {value}", within_s=30.0
            )
        await asyncio.sleep(0.5)  # several more looks, which find what is assumed
    assert [line["level"] for line in dry.lines if line["level"] in ("error", "critical")] == []
    assert "dry_run" in [line["event"] for line in dry.lines]
    assert (await bus.js.stream_info(streams.ACTUATIONS)).state.messages == 0
    with pytest.raises(NoKeysError):
        await (await bus.js.key_value(streams.STATE)).keys()
    assert len(dry.would_write) == len(values)
    return dry.would_write


async def test_of_cgroups_it_says_what_it_would_write_and_their_files_stay(broker, bus, tmp_path):
    limit = tmp_path / "cgroup" / "pods" / SLICE / "cpu.max"
    limit.parent.mkdir(parents=True)
    (tmp_path / "cgroup" / "cgroup.controllers").write_text("cpu\n")
    (limit.parent.parent / "cpu.max").write_text("max 100000\n")
    limit.write_text("400000 100000\n")
    before = limit.stat().st_mtime_ns
    own = {"root": str(tmp_path / "cgroup")}
    told = await tells(broker, bus, tmp_path, "gnb_cpu", "/pods/{slice}", (2000.0, 3000.0), cgroup=own)
    assert told == [(4000.0, [f"{limit}: 200000 100000"]), (4000.0, [f"{limit}: 300000 100000"])]
    assert (limit.read_text(), limit.stat().st_mtime_ns) == ("400000 100000\n", before)


async def test_of_kubernetes_it_says_the_patch_and_sends_none(broker, bus, tmp_path):
    async with FakeKubernetes().serving() as cluster:
        pods = [cluster.add(f"upf-{number}", app="upf") for number in range(2)]
        before = json.dumps(pods)
        own = {"kubeconfig": str(cluster.kubeconfig(tmp_path)), "timeout_s": 5.0}
        told = await tells(broker, bus, tmp_path, "upf_cpu", "core/app=upf/upf", (250.0, 500.0), kubernetes=own)
        assert [has for has, _ in told] == [1000.0] * 2
        assert all(len(steps) == 2 and "--subresource resize" in steps[0] for _, steps in told)
        assert {method for method, *_ in cluster.requests} == {"GET"}
        assert json.dumps(pods) == before


@pytest.mark.parametrize(("target", "steps"), [("metered", 2), ("queued", 1)])
async def test_of_onos_it_says_the_requests_and_sends_none_of_them(broker, bus, tmp_path, target, steps):
    async with FakeOnos(DEVICE) as fake:
        own = {"url": fake.url, "password_file": str(Onos(fake, tmp_path).password_file), "flows": FLOWS}
        told = await tells(broker, bus, tmp_path, "transport_bandwidth", target, (10.0, 40.0), onos=own)
        assert [(has, len(what)) for has, what in told] == [(None, steps)] * 2
        assert fake.requests
        assert fake.writes == []
        assert (fake.devices[DEVICE].flows, fake.devices[DEVICE].meters, list(fake.apps)) == (
            {},
            {},
            ["org.onosproject.rest"],
        )


async def test_of_systemd_it_says_the_command_and_sets_nothing(broker, bus, dbus, fake_systemd, tmp_path):
    unit = fake_systemd.add("gnb.service")
    unit.properties[QUOTA] = 4_000_000
    unit.realize()
    own = {"address": dbus.address, "root": str(fake_systemd.root), "timeout_s": 10.0}
    told = await tells(broker, bus, tmp_path, "gnb_cpu", "gnb.service", (2000.0, 3000.0), systemd=own)
    command = "systemctl set-property --runtime gnb.service CPUQuota="
    assert told == [(4000.0, [f"{command}200%"]), (4000.0, [f"{command}300%"])]
    assert fake_systemd.sets == []
    assert "SetUnitProperties" not in fake_systemd.asked
    assert unit.cpu_max.read_text() == "400000 100000\n"


@pytest.mark.root
async def test_of_open_vswitch_it_says_the_rows_that_it_would_make_and_makes_none(broker, bus, switch, tmp_path):
    switch.add_port("v0")
    before = switch.vsctl("get", "open_vswitch", ".", "next_cfg"), switch.tc("qdisc show dev v0")
    own = {"remote": switch.remote, "create": True, "port_mbps": 100.0}
    told = await tells(broker, bus, tmp_path, "transport_bandwidth", "v0/7", (10.0, 40.0), ovs=own)
    assert [(has, [step.split(":")[0] for step in steps]) for has, steps in told] == [
        (None, ["ovs port v0", "ovs queue 7 of port v0, a new one"])
    ] * 2
    assert (switch.rows("qos"), switch.rows("queue")) == (0, 0)
    assert (switch.vsctl("get", "open_vswitch", ".", "next_cfg"), switch.tc("qdisc show dev v0")) == before
