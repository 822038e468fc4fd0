"""`microopt actuator conformance`: real drivers pass, and one that breaks a rule is found out."""

import asyncio
import os
import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fakes import drivers
from fakes.kubernetes import FakeKubernetes
from fakes.onos import PASSWORD, FakeOnos
from microopt.errors import ConfigError
from microopt.settings import Settings
from microopt.testing import eventually
from microopt_actuator.cli import actuator as command
from microopt_actuator.conformance import checks
from microopt_actuator.conformance.run import Values, conform, try_out

DEVICE = "of:0000000000000050"
POD_UID = "7f3d1c0e-9a4b-4c55-8d21-0d7c6a1e2b3f"
ALL = ["read", *(check.name for check in checks.CHECKS), "put back"]


def ignore(_):
    pass


# --- drivers that keep the contract -----------------------------------------------------------------------------


@pytest.fixture
async def fake():
    async with FakeOnos(DEVICE) as server:
        yield server


@pytest.fixture
def onos_table(fake, tmp_path):
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    queues = [{"id": 1, "mbps": 5.0}, {"id": 2, "mbps": 10.0}, {"id": 3, "mbps": 40.0}]
    flows = {
        "metered": {"device": DEVICE, "selector": {"ipv4_src": "10.10.3.1/32"}},
        "queued": {"device": DEVICE, "selector": {"ipv4_src": "10.10.3.2/32"}, "queues": queues},
    }
    return {"actuator": {"onos": {"url": fake.url, "password_file": str(password), "flows": flows}}}


@pytest.mark.parametrize(("target", "after", "left"), [("metered", 20.0, [20_000]), ("queued", 10.0, [2])])
async def test_the_driver_for_onos_keeps_the_contract(fake, onos_table, target, after, left):
    settings = Settings(onos_table, "test")
    report = await conform(settings, "onos", target, Values(5.0, 40.0, after), ignore)
    assert report.ok, report
    assert [outcome.check for outcome in report.outcomes] == ALL
    assert left in (fake.rates(DEVICE), fake.queues(DEVICE))
    again = await conform(settings, "onos", target, Values(), ignore)
    assert again.ok, again
    assert (again.before, left in (fake.rates(DEVICE), fake.queues(DEVICE))) == (after, True)


async def test_a_dozen_changes_on_onos_leave_one_flow_and_one_meter_whatever_the_ids_are(fake, onos_table):
    fake.reuses_ids = False  # as an ONOS that gives them out by chance
    strangers = [fake.add_meter(DEVICE, 1_000 + number) for number in range(3)]
    settings = Settings(onos_table, "test")
    report = await conform(settings, "onos", "metered", Values(5.0, 40.0, 20.0), ignore)
    assert report.ok, report
    (said,) = [outcome.said for outcome in report.outcomes if outcome.check == "many in turn"]
    flow, meter = re.fullmatch(
        r"12 changes, each of which is read; there are flow (\d+), meter (\d+)", said
    ).groups()
    assert list(fake.devices[DEVICE].flows) == [int(flow)]
    assert int(meter) > 16  # which ONOS writes as 11 or more
    assert [one for one in fake.meters(DEVICE) if one not in strangers] == [int(meter) + 1]  # put back
    assert strangers == [one for one in fake.meters(DEVICE) if one in strangers]


def cgroup_root():
    """Return where this kernel limits CPU."""
    mounts = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu,cpuacct"))
    return next(one for one in mounts if (one / "cgroup.controllers").exists() or (one / "cpu.shares").exists())


@contextmanager
def kernel_cgroup(ending=""):
    """Make a cgroup on the kernel of this machine."""
    directory = cgroup_root() / f"microopt-conformance-{os.getpid()}{ending}"
    directory.mkdir()
    try:
        yield f"/{directory.name}"
    finally:
        directory.rmdir()


@pytest.mark.root
async def test_the_driver_for_cgroups_keeps_the_contract_for_a_pods_container_on_this_kernel():
    with kernel_cgroup("-kubepods") as outer:
        pod = cgroup_root() / outer.strip("/") / "burstable" / f"pod{POD_UID}"
        container = pod / ("b" * 64)
        folders = (pod.parent, pod, container)
        for folder in folders:
            folder.mkdir()
        try:
            for target, directory in ((f"pod:{POD_UID}", pod), (f"pod:{POD_UID}/bbbb", container)):
                values = Values(500.0, 1234.5, 4000.0)
                report = await conform(Settings({}, "test"), "cgroup", target, values, ignore)
                assert report.ok, report
                assert [outcome.check for outcome in report.outcomes] == ALL
                (refused,) = [outcome.said for outcome in report.outcomes if outcome.check == "wrong target"]
                assert "'pod:microopt-none': this node has no pod of this uid" in refused
                files = {one.name: one.read_text() for one in directory.iterdir() if one.name.startswith("cpu.")}
                assert "400000" in files.get("cpu.max", files.get("cpu.cfs_quota_us"))
        finally:
            for folder in reversed(folders):
                folder.rmdir()


@pytest.mark.root
async def test_the_driver_for_cgroups_keeps_the_contract_on_this_kernel():
    with kernel_cgroup() as target:
        report = await conform(Settings({}, "test"), "cgroup", target, Values(500.0, 1234.5, 4000.0), ignore)
        assert report.ok, report
        assert [outcome.check for outcome in report.outcomes] == ALL
        again = await conform(Settings({}, "test"), "cgroup", target, Values(), ignore)
        assert (again.ok, again.before) == (True, 4000.0)


@pytest.mark.parametrize("target", ["core/pod/upf-0/upf", "core/app=upf/upf"])
async def test_the_driver_for_kubernetes_keeps_the_contract(tmp_path, target):
    async with FakeKubernetes().serving() as cluster:
        pods = [cluster.add(f"upf-{number}", limit="1", request="100m", app="upf") for number in range(2)]
        table = {"kubeconfig": str(cluster.kubeconfig(tmp_path)), "settle_s": 5.0, "timeout_s": 5.0}
        settings = Settings({"actuator": {"kubernetes": table}}, "test")
        report = await conform(settings, "kubernetes", target, Values(), ignore)
        assert report.ok, report
        assert ([outcome.check for outcome in report.outcomes], report.before) == (ALL, 1000.0)
        meant = pods if "=" in target else pods[:1]
        # low, high, somebody else's, many, and what was before
        assert len(cluster.patches()) == (4 + checks.TURNS) * len(meant)
        assert [pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"] for pod in pods] == ["1", "1"]
        assert [pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] for pod in pods] == ["100m"] * 2


# --- drivers that do not ----------------------------------------------------------------------------------------


async def tried(kind, values=None, *, before=20.0):
    shelf = {"a": before}
    return shelf, await try_out(kind(shelf), kind(shelf), "a", values or Values(5.0, 15.0), ignore)


async def test_a_driver_that_keeps_the_contract_leaves_what_it_found():
    shelf, report = await tried(drivers.Shelf, Values())
    assert (report.ok, shelf) == (True, {"a": 20.0})


@pytest.mark.parametrize(
    ("kind", "check", "said"),
    [
        (drivers.PlansByWriting, "plan writes nothing", "20 was in force, and 5 is after a mere plan"),
        (drivers.Rounds, "apply high", "15 was applied, which shows as 15 ± 0.5; 10 is read"),
        (drivers.WritesAgain, "apply again", "still has steps: write it again"),
        (drivers.Remembers, "drift is seen", "15 is read"),
        (
            drivers.Leaks,
            "many in turn",
            "of meter 1, meter 2, meter 3 has become meter 1, meter 2, meter 3, meter 4, ",
        ),
        (drivers.MovesOn, "many in turn", "there was flow 3, and flow 15 is in its place"),
        (drivers.Forgets, "many in turn", "change 7: 14.1667 was applied"),
        (drivers.TakesAnyTarget, "wrong target", "'a-microopt-none' was read instead of refused"),
        (drivers.LooksAtTheNotationOnly, "wrong target", "'b' was read instead of refused"),
        (drivers.TakesAnyValue, "wrong values", "nan was planned instead of refused"),
        (drivers.SaysNothing, "wrong target", "without a word"),
        (drivers.Crashes, "apply low", "KeyError('a')"),
    ],
)
async def test_a_driver_that_breaks_a_rule_is_found_out_and_the_value_put_back(kind, check, said):
    shelf, report = await tried(kind)
    assert not report.ok
    (outcome,) = [outcome for outcome in report.outcomes if outcome.check == check]
    assert not outcome.ok
    assert said in outcome.said
    assert shelf["a"] == 20.0


async def test_what_the_thing_itself_says_of_an_absent_target_is_shown():
    class Precise(drivers.Shelf):
        def absent(self, _):
            return "b"

    _, report = await tried(Precise)
    assert report.ok
    assert [one.said for one in report.outcomes if one.check == "wrong target"] == ["b is not there"]


async def test_a_temporary_error_is_waited_out():
    _, report = await tried(drivers.ConfirmsLate)
    assert report.ok


async def test_a_target_that_cannot_be_read_is_not_written():
    shelf = {"a": 20.0}
    report = await try_out(drivers.Shelf(shelf), drivers.Shelf(shelf), "b", Values(), ignore)
    assert [(outcome.check, outcome.said) for outcome in report.outcomes] == [("read", "b is not there")]
    assert not report.ok


@pytest.mark.parametrize(
    ("before", "values", "error"),
    [
        (None, Values(5.0, 15.0), "no value is in force, which a driver cannot put back; say with --after"),
        (20.0, Values(low=20.0), "--low 20 is not below --high 20"),
        (20.0, Values(low=float("nan")), "--low nan is not below"),
    ],
)
async def test_values_that_cannot_be_tried_are_refused_before_anything_is_written(before, values, error):
    shelf = {"a": before}
    with pytest.raises(ConfigError, match=error):
        await try_out(drivers.Shelf(shelf), drivers.Shelf(shelf), "a", values, ignore)
    assert shelf == {"a": before}


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(tmp_path):
    """Make the files of a v2 hierarchy with one pod, whose limit is 4 cores; return its limit and a config."""
    limit = tmp_path / "cgroup" / "pods" / "a" / "cpu.max"
    limit.parent.mkdir(parents=True)
    (tmp_path / "cgroup" / "cgroup.controllers").write_text("cpu\n")
    (limit.parent.parent / "cpu.max").write_text("max 100000\n")
    limit.write_text("400000 100000\n")
    config = tmp_path / "microopt.yaml"
    config.write_bytes(msgspec.yaml.encode({"actuator": {"cgroup": {"root": str(tmp_path / "cgroup")}}}))
    return limit, config


def invoke(config, *arguments):
    return CliRunner().invoke(command, ["conformance", "cgroup", "--config", str(config), *arguments])


def test_the_command_says_a_line_for_each_check_and_puts_the_value_back(pod):
    limit, config = pod
    done = invoke(config, "--target", "/pods/a", "--low", "1000")
    assert done.exit_code == 0, done.output
    told = [line.split(" s  ", 1)[1] for line in done.output.splitlines() if line.startswith("✓")]
    assert [line.split(":")[0] for line in told] == ALL
    assert told[0] == "read: 4000 is in force"
    assert f"              {limit}: 100000 100000" in done.output.splitlines()
    assert done.output.splitlines()[-1] == "10 checks passed: cgroup keeps its contract at /pods/a"
    assert limit.read_text().strip() == "400000 100000"


def test_the_command_ends_with_status_1_if_a_check_failed_and_has_a_form_for_programs(pod):
    _, config = pod
    done = invoke(config, "--target", "/pods/b")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == "1 of 1 checks failed: read"
    as_json = invoke(config, "--target", "/pods/b", "--json")
    assert as_json.exit_code == 1
    report = msgspec.json.decode(as_json.output)
    assert (report["driver"], report["target"], report["unit"]) == ("cgroup", "/pods/b", "millicores")
    assert [outcome["ok"] for outcome in report["outcomes"]] == [False]


# A job in the background ignores Ctrl-C, and its children with it.
ON_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


async def test_ctrl_c_puts_the_value_back(fake, onos_table, tmp_path):
    settings = Settings(onos_table, "test")
    await conform(settings, "onos", "metered", Values(5.0, 40.0, 20.0), ignore)
    config = tmp_path / "microopt.yaml"
    config.write_bytes(msgspec.yaml.encode(onos_table))
    fake.requests.clear()
    fake.polls = False
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", f"{ON_A_TERMINAL}; from microopt_actuator.cli import actuator; actuator()"),
        *("conformance", "onos", "--target", "metered", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await eventually(lambda: f"POST meters/{DEVICE}" in fake.writes)
    process.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert "put back: 20 is read" in said.decode()
    assert "apply high" not in said.decode()
    assert fake.rates(DEVICE) == [20_000]
