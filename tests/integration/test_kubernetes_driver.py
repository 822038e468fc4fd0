"""The driver `kubernetes` against an API server as strict as the real one, and its kubelet."""

from functools import partial

import pytest

from fakes.kubernetes import REVIEWS, FakeKubernetes, hold, opened
from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.base import WRITABLE, Write

TARGET = "core/pod/upf-0/upf"
ALL = "core/app=upf,slice=embb/upf"


@pytest.fixture
async def cluster():
    async with FakeKubernetes().serving() as it:
        yield it


@pytest.fixture
def driving(cluster, tmp_path):
    """Open the driver for the cluster, with any setting changed."""
    return partial(opened, cluster, tmp_path)


def limit_of(pod):
    return pod["spec"]["containers"][0]["resources"]["limits"]["cpu"]


def request_of(pod):
    return pod["spec"]["containers"][0]["resources"]["requests"]["cpu"]


async def test_a_limit_is_planned_as_kubectl_would_write_it_put_in_force_and_read_from_the_kubelet(
    cluster, driving
):
    pod = cluster.add(limit="1", request="100m")
    async with driving() as driver:
        assert await driver.read(TARGET) == 1000.0
        write = await driver.plan(TARGET, 250.0)
        assert write.steps == (
            "kubectl -n core patch pod upf-0 --subresource resize --patch "
            '\'{"spec":{"containers":[{"name":"upf","resources":{"requests":{"cpu":"100m"},'
            '"limits":{"cpu":"250m"}}}]}}\'',
        )
        assert cluster.patches() == []
        await driver.apply(write)
        assert write.is_held_by(await driver.read(TARGET))
        assert (limit_of(pod), request_of(pod), pod["metadata"]["generation"]) == ("250m", "100m", 2)


async def test_a_limit_in_force_is_not_written_again(cluster, driving):
    cluster.add()
    async with driving() as driver:
        await hold(driver, TARGET, 250.0)
        write = await hold(driver, TARGET, 250.0)
    assert write.steps == ()
    assert len(cluster.patches()) == 1


async def test_reading_says_what_the_kubelet_has_done_and_not_what_was_asked_for(cluster, driving):
    cluster.add(limit="1")
    cluster.kubelet.works = False
    async with driving(settle_s=0.1) as driver:
        with pytest.raises(TemporaryError, match=r"250 millicores .* not in force yet, the kubelet says 1000"):
            await hold(driver, TARGET, 250.0)
        assert await driver.read(TARGET) == 1000.0


async def test_every_running_pod_that_matches_gets_the_limit(cluster, driving):
    pods = [cluster.add(f"upf-{n}", app="upf", slice="embb") for n in range(3)]
    other = cluster.add("other", app="upf", slice="urllc")
    async with driving() as driver:
        write = await hold(driver, ALL, 300.0)
        assert len(write.steps) == 3
        assert await driver.read(ALL) == 300.0
    assert [limit_of(pod) for pod in (*pods, other)] == ["300m", "300m", "300m", "1"]


async def test_a_pod_that_is_new_shows_as_drift_and_is_resized_alone(cluster, driving):
    cluster.add("upf-0", app="upf", slice="embb")
    cluster.add("upf-1", app="upf", slice="embb")
    async with driving() as driver:
        write = await hold(driver, ALL, 300.0)
        cluster.remove("upf-1")
        cluster.add("upf-2", app="upf", slice="embb")
        assert not write.is_held_by(await driver.read(ALL))
        write = await hold(driver, ALL, 300.0)
        assert ["upf-2" in step for step in write.steps] == [True]
        assert write.is_held_by(await driver.read(ALL))


async def test_what_a_node_can_never_give_is_refused_in_the_words_of_its_kubelet(cluster, driving):
    cluster.add()
    cluster.kubelet.capacity = 2000
    async with driving() as driver:
        with pytest.raises(
            PermanentError, match=r"infeasible: Node didn't have enough capacity.*lower the slice's"
        ):
            await hold(driver, TARGET, 3000.0)
        assert await driver.read(TARGET) == 1000.0


# --- what a resize leaves as it is ------------------------------------------------------------------------------


async def test_a_guaranteed_pod_stays_guaranteed(cluster, driving):
    pod = cluster.add(request="1", limit="1", memory=("1Gi", "1Gi"))
    async with driving() as driver:
        await hold(driver, TARGET, 2500.0)
    assert (limit_of(pod), request_of(pod)) == ("2500m", "2500m")


async def test_a_burstable_pod_stays_burstable_at_a_limit_below_its_request(cluster, driving):
    pod = cluster.add(request="500m", limit="1", memory=("1Gi", "1Gi"))
    async with driving() as driver:
        await hold(driver, TARGET, 300.0)
    assert (limit_of(pod), request_of(pod)) == ("300m", "299m")


async def test_a_request_that_went_down_with_the_limit_comes_back_with_it(cluster, driving):
    pod = cluster.add(request="500m", limit="1")
    async with driving() as driver:
        await hold(driver, TARGET, 300.0)
        assert request_of(pod) == "300m"
        await hold(driver, TARGET, 400.0)
        assert request_of(pod) == "400m"
        await hold(driver, TARGET, 2000.0)
        assert request_of(pod) == "500m"


async def test_a_request_that_somebody_else_has_set_since_is_theirs(cluster, driving):
    pod = cluster.add(request="500m", limit="1")
    async with driving() as driver:
        await hold(driver, TARGET, 300.0)
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "200m"
        cluster.touch(pod)
        await hold(driver, TARGET, 2000.0)
    assert request_of(pod) == "200m"


async def test_a_best_effort_pod_is_refused_before_the_api_does(cluster, driving):
    cluster.add_pod("upf-0", [{"name": "upf", "resources": {}}], {})
    async with driving() as driver:
        assert await driver.read(TARGET) is None
        with pytest.raises(PermanentError, match=r"core/pod/upf-0/upf: .*has no CPU request"):
            await driver.plan(TARGET, 300.0)


async def test_a_container_that_a_resize_restarts_is_left_alone_unless_that_is_allowed(cluster, driving):
    pod = cluster.add(policy="RestartContainer")
    async with driving() as driver:
        with pytest.raises(PermanentError, match=r"RestartContainer.*allow_restart in \[actuator\.kubernetes\]"):
            await driver.plan(TARGET, 300.0)
    async with driving(allow_restart=True) as driver:
        write = await hold(driver, TARGET, 300.0)
        assert write.is_held_by(await driver.read(TARGET))
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1


async def test_what_systemd_rounds_up_counts_as_held(cluster, driving):
    cluster.add()
    cluster.kubelet.rounds_up = True
    async with driving() as driver:
        write = await hold(driver, TARGET, 1505.0)
        assert await driver.read(TARGET) == 1510.0
        assert write.is_held_by(1510.0)


# --- kubelets ---------------------------------------------------------------------------------------------------


async def test_a_slow_kubelet_is_waited_for(cluster, driving):
    cluster.add()
    cluster.kubelet.delay_s = 0.1
    async with driving() as driver:
        write = await hold(driver, TARGET, 250.0)
        assert write.is_held_by(await driver.read(TARGET))


async def test_what_is_deferred_is_said_and_in_force_once_there_is_room(cluster, driving):
    pod = cluster.add()
    cluster.kubelet.free = 2000
    async with driving() as driver:
        with pytest.raises(TemporaryError, match=r"pending \(Deferred\): Node didn't have enough resource: cpu"):
            await hold(driver, TARGET, 3000.0)
        cluster.kubelet.free = 4000
        cluster.kubelet.retry(pod)
        write = await hold(driver, TARGET, 3000.0)
        assert write.is_held_by(await driver.read(TARGET))
    assert len(cluster.patches()) == 1


async def test_a_kubelet_that_fails_is_quoted(cluster, driving):
    cluster.add()
    cluster.kubelet.error = "failed to update cgroup: device busy"
    async with driving(settle_s=0.1) as driver:
        with pytest.raises(TemporaryError, match=r"kubelet says 1000; Error failed to update cgroup: device busy"):
            await hold(driver, TARGET, 300.0)


@pytest.mark.parametrize("dated", [True, False])
async def test_after_a_resize_that_can_never_be_another_one_is_put_in_force(cluster, driving, dated):
    cluster.add()
    cluster.kubelet.capacity = 2000
    cluster.kubelet.delay_s = 0.1  # meanwhile the condition is still that of the first
    cluster.kubelet.dates_conditions = dated
    async with driving(settle_s=1.0) as driver:
        with pytest.raises(PermanentError, match="infeasible"):
            await hold(driver, TARGET, 3000.0)
        write = await hold(driver, TARGET, 1500.0)
        assert write.is_held_by(await driver.read(TARGET))


async def test_a_kubelet_that_says_nothing_is_no_number(cluster, driving):
    pod = cluster.add()
    del pod["status"]["containerStatuses"][0]["resources"]
    async with driving() as driver:
        with pytest.raises(TemporaryError, match=r"kubelet does not say what container upf has.*Kubernetes 1\.33"):
            await driver.read(TARGET)
        with pytest.raises(PermanentError, match="Pod running on node without support for resize"):
            await hold(driver, TARGET, 300.0)


async def test_a_pod_in_trouble_does_not_hold_up_the_others(cluster, driving):
    cluster.add("upf-0", policy="RestartContainer", app="upf", slice="embb")
    fine = cluster.add("upf-1", app="upf", slice="embb")
    async with driving() as driver:
        with pytest.raises(PermanentError, match=r"pod upf-0: .*RestartContainer"):
            await driver.apply(Write(ALL, 300.0, 300.0, 0.5, ()))
        assert await driver.read(ALL) is None
    assert limit_of(fine) == "300m"


# --- whether it could be written --------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [TARGET, ALL])
async def test_an_account_with_the_verb_can_write_and_asking_writes_nothing(cluster, driving, target):
    cluster.add(slice="embb", app="upf")
    async with driving() as driver:
        assert await driver.access(target) == WRITABLE
    assert {method for method, *_ in cluster.requests} == {"GET", "POST"}
    assert {path for method, path, *_ in cluster.requests if method == "POST"} == {REVIEWS}
    assert cluster.patches() == []


@pytest.mark.parametrize(("says", "reason"), [("", ""), ("no RBAC policy matched", " (no RBAC policy matched)")])
async def test_an_account_that_may_look_and_not_resize_is_told_which_verb_it_lacks(cluster, driving, says, reason):
    cluster.add()
    cluster.allowed.discard("patch pods/resize")
    cluster.says_of_denials = says
    async with driving() as driver:
        assert await driver.read(TARGET) == 1000.0
        access = await driver.access(TARGET)
    assert access.writable is False
    assert f"{TARGET}: our account cannot patch pods/resize in core{reason}; give the actuator's" in access.why


async def test_the_right_of_another_namespace_is_none_here(cluster, driving):
    async with driving() as driver:
        assert (await driver.access("edge/pod/upf-0/upf")).writable is False


async def test_a_server_without_resize_can_write_nothing(cluster, driving):
    cluster.add()
    cluster.has_resize = False
    async with driving() as driver:
        access = await driver.access(TARGET)
    assert (access.writable, "it needs Kubernetes 1.33 or newer" in access.why) == (False, True)


async def test_a_server_that_does_not_let_us_ask_leaves_it_unknown(cluster, driving):
    cluster.add()
    async with driving() as driver:
        cluster.token = "another"  # noqa: S105
        access = await driver.access(TARGET)
    assert access.writable is None
    assert "renew the credentials" in access.why
