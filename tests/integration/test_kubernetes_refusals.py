"""The driver `kubernetes` where pods are gone or the API refuses, and its credentials."""

import traceback
from functools import partial

import pytest

from fakes.kubernetes import TOKEN, FakeKubernetes, hold, opened
from microopt.errors import ConfigError, PermanentError, TemporaryError

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


# --- pods that are not as expected ------------------------------------------------------------------------------


async def test_a_pod_that_is_gone_or_ends_may_come_back(cluster, driving):
    pod = cluster.add(app="upf", slice="embb")
    async with driving() as driver:
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        for target in (TARGET, ALL):
            with pytest.raises(TemporaryError, match="no such container runs now"):
                await driver.read(target)
        cluster.remove("upf-0")
        with pytest.raises(TemporaryError, match=r'get pod: 404: pods "upf-0" not found'):
            await driver.plan(TARGET, 300.0)
        with pytest.raises(TemporaryError, match="no such container runs now"):
            await driver.plan(ALL, 300.0)


async def test_a_container_that_the_pod_does_not_have_is_named_with_those_it_has(cluster, driving):
    cluster.add()
    async with driving() as driver:
        with pytest.raises(PermanentError, match="pod upf-0 has no container 'amf', only upf; name one of them"):
            await driver.read("core/pod/upf-0/amf")


async def test_a_selector_that_is_too_wide_is_refused(cluster, driving):
    for n in range(51):
        cluster.add(f"upf-{n}", app="upf")
    async with driving() as driver:
        with pytest.raises(PermanentError, match="more than 50 pods match; write a narrower selector"):
            await driver.read("core/app=upf/upf")


async def test_a_pod_that_was_written_meanwhile_is_looked_at_again(cluster, driving):
    pod = cluster.add()
    cluster.before_patch = [lambda: cluster.touch(pod)] * 2
    async with driving() as driver:
        write = await hold(driver, TARGET, 300.0)
        assert write.is_held_by(await driver.read(TARGET))
    assert [code for method, *_, code in cluster.requests if method == "PATCH"] == [409, 409, 200]


async def test_a_pod_that_is_written_all_the_time_is_left_for_later(cluster, driving):
    pod = cluster.add()
    cluster.before_patch = [lambda: cluster.touch(pod)] * 3
    async with driving() as driver:
        with pytest.raises(TemporaryError, match="409: Operation cannot be fulfilled"):
            await hold(driver, TARGET, 300.0)


async def test_a_pod_that_was_replaced_meanwhile_is_not_resized_by_what_was_seen_of_the_former(cluster, driving):
    cluster.add(limit="1")
    cluster.before_patch = [lambda: cluster.add(request="1", limit="1", memory=("1Gi", "1Gi"))]
    async with driving() as driver:
        with pytest.raises(TemporaryError, match="pod upf-0 was replaced meanwhile"):
            await hold(driver, TARGET, 300.0)
        write = await hold(driver, TARGET, 300.0)
        assert write.is_held_by(await driver.read(TARGET))


# --- an API that refuses ----------------------------------------------------------------------------------------


async def test_a_missing_right_is_named_by_verb_and_resource(cluster, driving):
    cluster.add()
    cluster.allowed.remove("patch pods/resize")
    async with driving() as driver:
        with pytest.raises(PermanentError, match=r'cannot patch resource "pods/resize".*by a Role'):
            await hold(driver, TARGET, 300.0)


async def test_a_server_without_the_subresource_is_too_old(cluster, driving):
    cluster.add()
    cluster.has_resize = False
    async with driving() as driver:
        assert await driver.read(TARGET) == 1000.0
        with pytest.raises(PermanentError, match=r"the API server has no resize of pods; it needs Kubernetes"):
            await hold(driver, TARGET, 300.0)


@pytest.mark.parametrize(("right", "target"), [("get pods", TARGET), ("list pods", ALL)])
async def test_a_right_to_look_that_is_missing_is_named(cluster, driving, right, target):
    cluster.add()
    cluster.allowed.remove(right)
    async with driving() as driver:
        with pytest.raises(PermanentError, match=f'cannot {right.split()[0]} resource "pods"'):
            await driver.read(target)


@pytest.mark.parametrize(
    ("refuses", "kind"),
    [
        ("exceeded quota: compute, requested: limits.cpu=2, used: limits.cpu=1, limited: 2", TemporaryError),
        ("maximum cpu usage per Container is 1, but limit is 3", PermanentError),
    ],
)
async def test_what_admission_has_against_it_is_quoted(cluster, driving, refuses, kind):
    cluster.add()
    cluster.refuses = refuses
    async with driving() as driver:
        with pytest.raises(kind, match=f'403: pods "upf-0" is forbidden: {refuses}'):
            await hold(driver, TARGET, 3000.0)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_an_api_in_trouble_is_asked_again_later(cluster, driving, status):
    cluster.add()
    async with driving() as driver:
        cluster.broken = status
        with pytest.raises(TemporaryError, match=f"{status}: etcdserver: request timed out"):
            await driver.read(TARGET)
        cluster.broken = None
        assert await driver.read(TARGET) == 1000.0


async def test_an_api_that_does_not_answer_is_waited_for_no_longer_than_told(cluster, driving):
    cluster.add()
    cluster.hangs = True
    async with driving(timeout_s=0.1) as driver:
        with pytest.raises(TemporaryError, match=r"get pod: no answer within 0\.1 s"):
            await driver.read(TARGET)


async def test_a_pod_that_goes_while_it_is_resized_may_come_back(cluster, driving):
    cluster.add()
    cluster.before_patch = [lambda: cluster.remove("upf-0")]
    async with driving() as driver:
        with pytest.raises(TemporaryError, match=r'get pod: 404: pods "upf-0" not found'):
            await hold(driver, TARGET, 300.0)


async def test_an_answer_without_end_is_not_read_to_its_end(cluster, driving):
    cluster.add()["metadata"]["annotations"] = {"note": "x" * (17 << 20)}
    async with driving() as driver:
        with pytest.raises(TemporaryError, match="an answer of more than 16777216 bytes"):
            await driver.read(TARGET)


async def test_an_answer_that_is_no_pod_is_said_to_be_none(cluster, driving):
    del cluster.add()["spec"]["containers"]
    async with driving() as driver:
        with pytest.raises(TemporaryError, match=r"get pod: the answer is no Pod: .*`containers`"):
            await driver.read(TARGET)


async def test_an_api_that_is_away_is_found_once_it_is_back(tmp_path):
    cluster = FakeKubernetes()
    cluster.add()
    async with cluster.serving():
        pass  # which takes a port
    async with opened(cluster, tmp_path) as driver:
        with pytest.raises(TemporaryError, match=r"get pod: .*Cannot connect"):
            await driver.read(TARGET)
        async with cluster.serving():
            assert await driver.read(TARGET) == 1000.0


async def test_credentials_that_were_renewed_are_taken_up(cluster, driving, tmp_path):
    cluster.add()
    async with driving() as driver:
        cluster.token = "another"  # noqa: S105
        with pytest.raises(PermanentError, match="401: Unauthorized; renew the credentials in the kubeconfig"):
            await driver.read(TARGET)
        cluster.kubeconfig(tmp_path, token="another")  # noqa: S106
        assert await driver.read(TARGET) == 1000.0


# --- credentials ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "no such file; set kubeconfig in"),
        ("", "cannot be used"),
        ("- 1", "cannot be used"),
        ("{", "cannot be used"),
        (
            "current-context: here\n"
            "contexts: [{name: here, context: {cluster: one, user: microopt}}]\n"
            "clusters: [{name: one, cluster: {server: 'http://127.0.0.1:1'}}]\n"
            f"users: [{{name: microopt, token: {TOKEN}}}]",
            "cannot be used: Invalid kube-config file. Expected key user in",
        ),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path, driving, text, error):
    path = tmp_path / "broken"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rf"^kubeconfig \S*broken:? {error}") as caught:
        async with driving(kubeconfig=str(path)):
            pass
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


async def test_a_context_that_the_kubeconfig_does_not_have_is_named(driving):
    with pytest.raises(ConfigError, match=r"Expected object with name there in .*contexts"):
        async with driving(context="there"):
            pass


async def test_in_a_pod_the_service_account_is_used(driving, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigError, match="the pod's service account cannot be used: Service token file"):
        async with driving(kubeconfig=""):
            pass


async def test_no_error_and_no_log_has_the_token(cluster, driving, caplog):
    caplog.set_level("DEBUG")
    cluster.add()
    said = []
    async with driving(timeout_s=0.2) as driver:
        for trouble in ({"broken": 500}, {"broken": 403}, {"hangs": True}, {"token": "another"}):
            for name, value in trouble.items():
                setattr(cluster, name, value)
            with pytest.raises((PermanentError, TemporaryError)) as caught:
                await driver.read(TARGET)
            said += [repr(caught.value), repr(caught.value.__context__)]
            cluster.broken, cluster.hangs = None, False
    assert len(said) == 8
    assert TOKEN not in "".join(said) + caplog.text
