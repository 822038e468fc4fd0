"""For how long something else is in force than what was allocated, by what has changed it."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from actuate.cgroup import cgroup_place, quota_file
from actuate.measure import SLICE, settle
from actuate.ovs import VALUES_MBPS, switch_place
from actuate.place import Place, no_bare
from actuate.switch import ADDRESS, running_switch
from actuate.system import WITHIN_S, system
from fakes.kubernetes import FakeKubernetes

POLL_S = 0.005
QUEUE = 1


async def drift(quick: bool) -> dict[str, float]:
    """Return the longest time, in seconds, by cause."""
    return {
        "write": await by_write(2 if quick else 20),
        "new_switch": await by_new_switch(1 if quick else 5),
        "new_pod": await by_new_pod(2 if quick else 20),
    }


async def by_write(rounds: int) -> float:
    """Let somebody else write to a slice's cgroup, another one's each time."""
    slices = [f"1-{number:06x}" for number in range(1, rounds + 1)]
    with cgroup_place(slices) as place:
        async with system(place) as one:
            await settle(one, slices)
            stayed_s = []
            for number, name in enumerate(slices):
                file = quota_file(place, name)
                ours = file.read_text()
                await _phase(number, rounds)
                file.write_text("777000")
                stayed_s.append(await _until(lambda file=file, ours=ours: file.read_text() == ours))
    return max(stayed_s)


async def by_new_switch(rounds: int) -> float:
    """Begin an Open vSwitch and its database anew; time counts from when the port is shaped again."""
    rate = f"{VALUES_MBPS[0]:g}Mbit"
    with running_switch() as switch:
        switch.add_port(SLICE, ADDRESS)
        switch.add_queues(SLICE, QUEUE)
        async with system(switch_place(switch, QUEUE, VALUES_MBPS, no_bare)) as one:
            await settle(one, [SLICE])
            stayed_s = []
            for number in range(rounds):
                switch.end()
                await asyncio.to_thread(switch.begin)
                switch.vsctl("add-port", "br0", SLICE)
                await _phase(number, rounds)
                switch.add_queues(SLICE, QUEUE)
                stayed_s.append(await _until(lambda: switch.has_class(SLICE, rate)))
    return max(stayed_s)


async def by_new_pod(rounds: int) -> float:
    """Put a new pod in the place of a slice's; the cluster is the fake of the tests, its kubelet takes 50 ms."""
    async with FakeKubernetes().serving() as cluster:
        cluster.kubelet.delay_s = 0.05
        cluster.add("upf-0", app="upf", slice=SLICE)
        with tempfile.TemporaryDirectory(prefix="microopt-bench-") as folder:
            settings = {"kubeconfig": str(cluster.kubeconfig(Path(folder)))}
            target = "core/app=upf,slice={slice}/upf"
            place = Place("kubernetes", target, "millicores", (1500.0, 2000.0), no_bare, settings)
            async with system(place) as one:
                await settle(one, [SLICE])
                stayed_s = []
                for number in range(1, rounds + 1):
                    await _phase(number, rounds)
                    cluster.remove(f"upf-{number - 1}")
                    pod = cluster.add(f"upf-{number}", app="upf", slice=SLICE)
                    stayed_s.append(await _until(lambda pod=pod: _limit(pod) == "1500m"))
    return max(stayed_s)


def _limit(pod: dict) -> str:
    return pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"]


async def _phase(number: int, rounds: int) -> None:
    """Wait, so that what comes next comes anywhere between two readings of the actuator."""
    await asyncio.sleep(number / rounds)


async def _until(probe: Callable[[], bool]) -> float:
    began = time.perf_counter()
    async with asyncio.timeout(WITHIN_S):
        while not probe():  # noqa: ASYNC110  # neither kernel nor kubelet tells
            await asyncio.sleep(POLL_S)
    return time.perf_counter() - began
