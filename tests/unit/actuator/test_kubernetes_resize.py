"""What is asked of the API for a limit, and what is made of the kubelet's conditions."""

import msgspec
import pytest

from microopt.errors import MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.kubernetes_api import ConflictError, NotFoundError, refusal
from microopt_actuator.drivers.kubernetes_pod import Container, Pod, Resources, qos_class
from microopt_actuator.drivers.kubernetes_resize import checked_limit, in_common, is_done, planned, shown

ROOMY = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
EXACT = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1000m", "memory": "2048Mi"}}


def container(resources, name="upf", **fields):
    return {"name": name, "resources": resources, **fields}


def make_pod(*containers, actual="1", conditions=(), generation=1, **spec):
    status = {"name": "upf", "state": {"running": {}}, "resources": {"limits": {"cpu": actual}}}
    pod = {
        "metadata": {"name": "upf-0", "uid": "u", "resourceVersion": "7", "generation": generation},
        "spec": {"containers": containers or [container(ROOMY)], **spec},
        "status": {"containerStatuses": [status], "conditions": conditions},
    }
    return msgspec.convert(pod, Pod)


def asked(pod, limit, wanted=None):
    """Return request and limit of the patch."""
    (one,) = planned(pod, "upf", limit, wanted).body()["spec"]["containers"]
    assert one["name"] == "upf"
    return one["resources"]["requests"]["cpu"], one["resources"]["limits"]["cpu"]


@pytest.mark.parametrize(
    ("value", "limit"), [(10, 10), (250.0, 250), (250.01, 251), (0.1 * 3 * 1000, 300), (4500.0000001, 4500)]
)
def test_a_limit_is_whole_millicores_rounded_up(value: float, limit: int):
    assert checked_limit(value) == limit


@pytest.mark.parametrize("value", [9.9, 0.0, -1.0, float("nan"), float("inf"), 1e8])
def test_what_no_kubelet_can_give_is_refused(value: float):
    with pytest.raises(PermanentError, match=r"outside 10 to 10000000.*set the slice's bounds within"):
        checked_limit(value)


@pytest.mark.parametrize(
    ("limit", "held", "not_held"), [(250, [250], [249, 251]), (1505, [1505, 1510], [1504, 1511])]
)
def test_a_limit_is_held_as_it_is_and_as_systemd_rounds_it(limit: int, held: list[int], not_held: list[int]):
    middle, slack = shown(limit)
    assert all(abs(one - middle) <= slack for one in held)
    assert not any(abs(one - middle) <= slack for one in not_held)


@pytest.mark.parametrize(
    ("limits", "one"),
    [
        ([250.0], 250.0),
        ([250.0, 250.0], 250.0),
        ([1510.0, 1505.0], 1505.0),
        ([250.0, 251.0], None),
        ([250.0, None], None),
        ([None], None),
    ],
)
def test_pods_that_differ_have_no_value_in_common(limits: list[float | None], one: float | None):
    assert in_common(limits) == one


def test_a_patch_names_the_version_it_was_worked_out_for_and_nothing_but_cpu():
    assert planned(make_pod(), "upf", 250).body() == {
        "metadata": {"resourceVersion": "7"},
        "spec": {
            "containers": [{"name": "upf", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "250m"}}}]
        },
    }


def test_a_request_goes_down_with_the_limit_and_comes_back_to_what_it_was():
    assert asked(make_pod(), 50) == ("50m", "50m")
    low = {"requests": {"cpu": "50m", "memory": "1Gi"}, "limits": {"cpu": "50m", "memory": "2Gi"}}
    assert asked(make_pod(container(low)), 80, wanted=100) == ("80m", "80m")
    assert asked(make_pod(container(low)), 500, wanted=100) == ("100m", "500m")


def test_a_guaranteed_pod_stays_so_by_a_request_like_the_limit():
    assert asked(make_pod(container(EXACT)), 250) == ("250m", "250m")


def test_a_burstable_pod_does_not_become_guaranteed_by_a_low_limit():
    nearly = {**EXACT, "requests": {"cpu": "500m", "memory": "2Gi"}}
    assert asked(make_pod(container(nearly)), 500) == ("499m", "500m")
    assert asked(make_pod(container(nearly), container(ROOMY, "log")), 500) == ("500m", "500m")
    assert asked(make_pod(container(nearly), initContainers=[container({}, "init")]), 500) == ("500m", "500m")


def test_a_pod_whose_containers_share_resources_has_its_class_from_those():
    assert asked(make_pod(container(ROOMY), resources=EXACT), 50) == ("50m", "50m")


def test_a_container_with_a_request_and_no_limit_gets_one():
    assert asked(make_pod(container({"requests": {"cpu": "2"}})), 500) == ("500m", "500m")


@pytest.mark.parametrize("resources", [{}, {"requests": {"memory": "1Gi"}}])
def test_a_container_without_a_request_is_refused_with_the_remedy(resources: dict[str, object]):
    with pytest.raises(PermanentError, match=r"container upf has no CPU request.*give its template a CPU request"):
        planned(make_pod(container(resources)), "upf", 250)


def test_a_container_that_a_resize_restarts_is_refused_unless_that_is_allowed():
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    pod = make_pod(container(ROOMY, resizePolicy=policy))
    with pytest.raises(PermanentError, match=r"RestartContainer for cpu.*set allow_restart"):
        planned(pod, "upf", 250)
    assert planned(pod, "upf", 250, allow_restart=True).limit == 250
    assert planned(pod, "upf", 1000).is_asked_for  # what it has already restarts nothing


def test_memory_alone_may_restart_a_container():
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    assert planned(make_pod(container(ROOMY, resizePolicy=policy)), "upf", 250).limit == 250


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([], "BestEffort"),
        ([Resources(), Resources({}, {"cpu": "0"})], "BestEffort"),
        ([Resources({"cpu": "1"}, {"cpu": "1"})], "Burstable"),
        ([msgspec.convert(EXACT, Resources)], "Guaranteed"),
        ([msgspec.convert(EXACT, Resources), Resources()], "Burstable"),
        ([msgspec.convert(ROOMY, Resources)], "Burstable"),
    ],
)
def test_the_qos_class_is_that_of_the_api(resources: list[Resources], expected: str):
    assert qos_class([Container("c", one) for one in resources]) == expected


def condition(kind, reason="", *, generation=2, message="no room"):
    return {"type": kind, "status": "True", "reason": reason, "message": message, "observedGeneration": generation}


def look(*conditions, last_look=False, actual="1"):
    resize = planned(make_pod(generation=2), "upf", 250)
    return is_done(resize, make_pod(actual=actual, conditions=conditions, generation=2), last_look=last_look)


def test_a_resize_is_done_once_the_kubelet_says_so():
    assert not look()
    assert look(actual="250m")
    assert look(condition("PodResizeInProgress"), actual="250m")


def test_a_resize_that_can_never_be_is_permanent_and_one_that_waits_is_temporary():
    with pytest.raises(PermanentError, match="250 millicores for container upf is infeasible: no room; lower"):
        look(condition("PodResizePending", "Infeasible"))
    with pytest.raises(TemporaryError, match=r"is pending \(Deferred\): no room"):
        look(condition("PodResizePending", "Deferred"))


def test_a_condition_of_an_earlier_resize_is_none_of_this_one():
    assert not look(condition("PodResizePending", "Infeasible", generation=1))


def test_a_condition_without_a_generation_is_believed_at_the_last_look():
    undated = condition("PodResizePending", "Infeasible", generation=0)
    assert not look(undated)
    with pytest.raises(PermanentError, match="infeasible"):
        look(undated, last_look=True)


def test_at_the_last_look_it_is_said_how_far_the_kubelet_is():
    with pytest.raises(TemporaryError, match=r"not in force yet, the kubelet says 1000$"):
        look(last_look=True)
    with pytest.raises(TemporaryError, match=r"kubelet says 1000; Error no room$"):
        look(condition("PodResizeInProgress", "Error"), last_look=True)


def body(message):
    return msgspec.json.encode({"kind": "Status", "message": message})


@pytest.mark.parametrize(
    ("status", "message", "kind", "text"),
    [
        (400, "no JSON", PermanentError, "400: no JSON$"),
        (401, "Unauthorized", PermanentError, "renew the credentials"),
        (
            403,
            'User "x" cannot patch resource "pods/resize"',
            PermanentError,
            'resource "pods/resize"; .* by a Role',
        ),
        (403, "exceeded quota: cpu", TemporaryError, "raise the namespace's ResourceQuota"),
        (403, "maximum cpu usage per Container is 1", PermanentError, "is 1$"),
        (404, 'pods "x" not found', NotFoundError, "not found"),
        (409, "the object has been modified", ConflictError, "modified"),
        (422, "spec: Forbidden", PermanentError, "422: spec: Forbidden$"),
        (429, "slow down", TemporaryError, "429: slow down"),
        (500, "etcd", TemporaryError, "500: etcd"),
        (503, "", TemporaryError, "503: words$"),
    ],
)
def test_an_answer_that_refuses_is_kept_in_its_words(status: int, message: str, kind: type, text: str):
    error = refusal(status, "words", body(message), "core/pod/upf-0/upf: get pod")
    assert type(error) is kind
    with pytest.raises(MicrooptError, match=f"^kubernetes core/pod/upf-0/upf: get pod: .*{text}"):
        raise error


def test_what_a_proxy_has_written_is_kept_too_but_not_all_of_it():
    assert str(refusal(502, "words", b"<h1>Bad \xff Gateway</h1>" + b"x" * 10_000, "get")).startswith(
        "kubernetes get: 502: <h1>Bad"
    )
    assert len(str(refusal(502, "words", b"x" * 10_000, "get"))) < 600
