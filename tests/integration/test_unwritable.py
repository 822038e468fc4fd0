"""Places that an actuator's process may not write any more: said with the remedy, and of no harm to the others."""

import pytest

from microopt.testing import eventually
from real.actuator import BANDWIDTH, CPU, ONE, TWO, allocate, bound, put_pool, put_slice, reaches, reports
from real.switch import run

pytestmark = pytest.mark.root

WITHOUT_DAC = "-dac_override,-dac_read_search"


def without(capabilities: str) -> tuple[str, ...]:
    return ("setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}")


@pytest.fixture
def cgroups(cgroup_of):
    return {slice_: cgroup_of(slice_) for slice_ in (ONE, TWO)}


@pytest.fixture
def holding(cgroups, actuator_process):
    """Make the process of an actuator of both slices' CPU; the words are those that it is run by."""

    def make(*inside: str):
        bindings = [bound(CPU, "cgroup", one.target, slice_) for slice_, one in cgroups.items()]
        return actuator_process(*bindings, inside=inside, check_every_s=0.2)

    return make


@pytest.fixture
async def desired(bus):
    await put_pool(bus)
    for slice_ in (ONE, TWO):
        await put_slice(bus, slice_)


async def both_have(bus, epoch, cgroups, millicores):
    for slice_, cgroup in cgroups.items():
        await allocate(bus, epoch, {CPU: millicores}, slice_=slice_)
        await reaches(bus, epoch, "verified", slice_=slice_)
        assert cgroup.millicores() == millicores


async def one_fails_and_two_goes_on(bus, epoch, cgroups, before, after):
    """Allocate to both; return what is said of the one, which keeps what it had."""
    for slice_ in (ONE, TWO):
        await allocate(bus, epoch, {CPU: after}, slice_=slice_)
    report = await reaches(bus, epoch, "failed")
    await reaches(bus, epoch, "verified", slice_=TWO)
    assert (cgroups[ONE].millicores(), cgroups[TWO].millicores()) == (before, after)
    assert {r.state for r in await reports(bus, ONE) if r.epoch == epoch} == {"failed"}
    return report


@pytest.mark.usefixtures("desired")
async def test_a_file_system_that_becomes_read_only(bus, cgroups, holding):
    process = holding("unshare", "--mount")
    await process.start()
    await both_have(bus, 1, cgroups, 1000.0)

    inside = ("nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "mount")
    place = str(cgroups[ONE].directory)
    run(*inside, "--bind", place, place)
    run(*inside, "--options", "remount,bind,ro", place)
    report = await one_fails_and_two_goes_on(bus, 2, cgroups, 1000.0, 2000.0)
    assert "Read-only file system; run the actuator as root" in report.error
    assert "with the host's cgroup file system mounted read-write" in report.error

    run(*inside, "--options", "remount,bind,rw", place)
    await reaches(bus, 2, "verified")
    assert cgroups[ONE].millicores() == 2000.0


@pytest.mark.usefixtures("desired")
async def test_a_file_that_the_actuator_may_not_write_any_more(bus, cgroups, holding):
    await holding(*without(WITHOUT_DAC)).start()
    await both_have(bus, 1, cgroups, 1000.0)

    file = cgroups[ONE].limit_file
    file.chmod(0o444)
    report = await one_fails_and_two_goes_on(bus, 2, cgroups, 1000.0, 2000.0)
    assert "Permission denied; run the actuator as root (or owner of a delegated cgroup)" in report.error

    file.chmod(0o644)
    await reaches(bus, 2, "verified")
    assert cgroups[ONE].millicores() == 2000.0


@pytest.mark.usefixtures("desired")
async def test_a_right_that_is_lacking_from_the_first_fails_its_resource_alone(
    bus, cgroups, htb, actuator_process
):
    bindings = (bound(CPU, "cgroup", cgroups[ONE].target), bound(BANDWIDTH, "tc", htb.target))
    await actuator_process(*bindings, inside=without("-net_admin"), check_every_s=0.2).start()
    for epoch, values in enumerate(({CPU: 1000.0, BANDWIDTH: 20.0}, {CPU: 2000.0, BANDWIDTH: 30.0}), 1):
        await allocate(bus, epoch, values)
        report = await reaches(bus, epoch, "failed", resource=BANDWIDTH)
        assert "give the actuator the capability CAP_NET_ADMIN" in report.error
        await reaches(bus, epoch, "verified")
        assert (cgroups[ONE].millicores(), htb.mbps()) == (values[CPU], 10.0)


@pytest.mark.usefixtures("desired")
async def test_what_is_changed_where_it_may_not_be_put_back_is_told(bus, cgroups, holding):
    await holding(*without(WITHOUT_DAC)).start()
    await both_have(bus, 1, cgroups, 1000.0)
    cgroups[ONE].limit_file.chmod(0o444)
    cgroups[ONE].limit(300.0)
    cgroups[TWO].limit(300.0)
    report = await reaches(bus, 1, "failed")
    assert "Permission denied" in report.error
    await eventually(lambda: cgroups[TWO].millicores() == 1000.0)
    assert cgroups[ONE].millicores() == 300.0
    cgroups[ONE].limit_file.chmod(0o644)
    await reaches(bus, 1, "verified", times=2)
    assert cgroups[ONE].millicores() == 1000.0
