"""Several actuators on one bus, each a process with resources of its own, and one memory."""

import pytest

from real.actuator import BANDWIDTH, CPU, ONE, allocate, bound, last_report, put_pool, put_slice, reaches, reports

pytestmark = pytest.mark.root


@pytest.fixture
def cgroup(cgroup_of):
    return cgroup_of("cpu")


@pytest.fixture
async def both(bus, cgroup, htb, actuator_process):
    """Start the actuator of the slice's CPU and that of its bandwidth; epoch 1 is in force."""
    await put_pool(bus)
    await put_slice(bus)
    cpu = actuator_process(bound(CPU, "cgroup", cgroup.target), name="cpu", check_every_s=0.2)
    bandwidth = actuator_process(bound(BANDWIDTH, "tc", htb.target), name="bandwidth", check_every_s=0.2)
    for process in (cpu, bandwidth):
        await process.start()
    await allocate(bus, 1, {CPU: 1000.0, BANDWIDTH: 20.0})
    await verified(bus, 1, CPU, BANDWIDTH)
    return cpu, bandwidth


async def verified(bus, epoch, *resources, times=1):
    for resource in resources:
        await reaches(bus, epoch, "verified", resource=resource, times=times)


async def test_each_speaks_of_its_own_resource_alone_and_the_death_of_one_does_not_hold_up_the_other(
    bus, both, cgroup, htb
):
    cpu, _ = both
    await cpu.kill()
    await allocate(bus, 2, {CPU: 2000.0, BANDWIDTH: 30.0})
    await verified(bus, 2, BANDWIDTH)
    assert (cgroup.millicores(), htb.mbps()) == (1000.0, 30.0)
    htb.limit(50)
    await verified(bus, 2, BANDWIDTH, times=2)

    await cpu.start()
    await verified(bus, 2, CPU)
    assert (cgroup.millicores(), htb.mbps()) == (2000.0, 30.0)
    assert {(r.resource, r.driver) for r in await reports(bus)} == {(CPU, "cgroup"), (BANDWIDTH, "tc")}


async def test_a_unit_that_one_cannot_take_is_refused_by_that_one_also_after_its_restart(bus, both, cgroup, htb):
    _, bandwidth = both
    await put_pool(bus, **{BANDWIDTH: "kbit/s"})
    await allocate(bus, 2, {CPU: 2000.0, BANDWIDTH: 30.0})
    await verified(bus, 2, CPU)
    report = await reaches(bus, 2, "refused", resource=BANDWIDTH)
    said = "pool edge counts transport_bandwidth in 'kbit/s', but its driver sets 'Mbit/s'"
    assert said in report.error
    htb.limit(50)
    await verified(bus, 1, BANDWIDTH, times=2)

    await bandwidth.kill()
    before = len(await reports(bus, resource=BANDWIDTH))
    await bandwidth.start()
    await reaches(bus, 2, "refused", resource=BANDWIDTH, times=2)
    assert said in (await last_report(bus, ONE, BANDWIDTH)).error
    assert {r.state for r in (await reports(bus, resource=BANDWIDTH))[before:]} == {"refused"}
    assert (cgroup.millicores(), htb.mbps()) == (2000.0, 20.0)

    await put_pool(bus)
    await allocate(bus, 3, {CPU: 3000.0, BANDWIDTH: 40.0})
    await verified(bus, 3, CPU, BANDWIDTH)
    assert (cgroup.millicores(), htb.mbps()) == (3000.0, 40.0)


async def test_both_restarted_at_once_hold_what_was_accepted_last(bus, both, cgroup, htb):
    await allocate(bus, 2, {CPU: 2000.0, BANDWIDTH: 30.0})
    await verified(bus, 2, CPU, BANDWIDTH)
    for process in both:
        await process.kill()
    cgroup.limit(300.0)
    htb.limit(50)
    for process in both:
        await process.start()
    await verified(bus, 2, CPU, BANDWIDTH, times=2)
    assert (cgroup.millicores(), htb.mbps()) == (2000.0, 30.0)
