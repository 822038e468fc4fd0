"""`microopt actuator check` as an operator runs it: whether what is bound could be written."""

import asyncio
import subprocess
import sys

import msgspec
import pytest

from microopt import streams
from microopt.specs import Bounds, Sla, SliceSpec

SLICE = "1-000001"
CPU = "gnb_cpu"
COMMAND = "from microopt_actuator.cli import actuator; actuator()"
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


@pytest.fixture
def root(tmp_path):
    """Make the files of a v2 hierarchy with the cgroup of a slice."""
    root = tmp_path / "cgroup"
    (root / "pods" / SLICE).mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu\n")
    (root / "pods" / "cpu.max").write_text("max 100000\n")
    (root / "pods" / SLICE / "cpu.max").write_text("400000 100000\n")
    return root


@pytest.fixture
async def config(broker, bus, root, tmp_path):
    spec = SliceSpec(
        slice=SLICE,
        pool="edge",
        sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
        bounds={CPU: Bounds(100.0, 4500.0)},
        model="embb",
    )
    await bus.put_spec(streams.SLICES, SLICE, spec)
    binding = {"slice": "*", "resource": CPU, "driver": "cgroup", "target": "/pods/{slice}"}
    table = {"actuator": {"bindings": [binding], "cgroup": {"root": str(root)}}, "nats": {"url": broker.url}}
    file = tmp_path / "microopt.yaml"
    file.write_bytes(msgspec.yaml.encode(table))
    return file


async def checked(config, *more, before=()):
    """Run the command as a process of its own."""
    command = [*before, sys.executable, "-c", COMMAND, "check", "--config", str(config), *more]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)


async def test_what_can_be_written_is_said_to_be_writable(root, config):
    done = await checked(config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"slice {SLICE}",
        f"  ✓ {CPU}: cgroup /pods/{SLICE}",
        "      in force    4000 millicores",
        "      writable    yes",
        "",
        "1 of 1 resources are bound here; 1 of them can be held",
    ]
    assert (root / "pods" / SLICE / "cpu.max").read_text() == "400000 100000\n"


@pytest.mark.root
async def test_a_read_only_mount_is_found_out_before_anything_is_written(root, config):
    inside = ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(root))
    done = await checked(config, before=inside)
    assert done.returncode == 1, done.stderr
    why = (
        f"cgroup {root}/pods/{SLICE}: cpu.max cannot be written: Read-only file system; run the actuator as root "
        "(or owner of a delegated cgroup) with the host's cgroup file system mounted read-write"
    )
    assert done.stdout.splitlines() == [
        f"slice {SLICE}",
        f"  ✗ {CPU}: cgroup /pods/{SLICE}",
        "      in force    4000 millicores",
        f"      writable    no: {why}",
        "",
        "1 of 1 resources are bound here; 0 of them can be held",
    ]
    as_json = await checked(config, "--json", before=inside)
    assert as_json.returncode == 1
    (row,) = msgspec.json.decode(as_json.stdout)["rows"]
    assert (row["readable"], row["observed"], row["writable"], row["access"]) == (True, 4000.0, False, why)


@pytest.mark.root
async def test_a_file_of_somebody_else_is_found_out_without_the_rights_of_root(root, config):
    (root / "pods" / SLICE / "cpu.max").chmod(0o444)
    # Still user 0, who goes on reading what is root's, and is no longer above the files' rights.
    without = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    done = await checked(config, before=without)
    assert done.returncode == 1, done.stderr
    assert "writable    no: " in done.stdout
    assert "cpu.max cannot be written: Permission denied; run the actuator as root" in done.stdout
