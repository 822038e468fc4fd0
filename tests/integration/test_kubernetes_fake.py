"""The API server that stands in for the real one refuses as that does."""

import json

import aiohttp
import pytest

from fakes.kubernetes import REVIEWS, TOKEN, FakeKubernetes

PODS = "/api/v1/namespaces/core/pods"
POD, RESIZE = f"{PODS}/upf-0", f"{PODS}/upf-0/resize"
MERGE = "application/strategic-merge-patch+json"


def containers(*which):
    return json.dumps({"spec": {"containers": which}}).encode()


def resources(limit="250m", request="100m", **memory):
    return {"name": "upf", "resources": {"requests": {"cpu": request}, "limits": {"cpu": limit, **memory}}}


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "status"),
    [
        ("PATCH", RESIZE, containers(resources()), MERGE, 200),
        ("PATCH", RESIZE, containers(resources()), "application/json", 415),
        ("PATCH", RESIZE, b"{", MERGE, 400),
        ("PATCH", RESIZE, containers({"resources": {}}), MERGE, 400),
        ("PATCH", RESIZE, containers(resources("250 m")), MERGE, 400),
        ("PATCH", RESIZE, b'{"metadata": {"resourceVersion": "1"}}', MERGE, 409),
        ("PATCH", RESIZE, containers(resources("50m")), MERGE, 422),
        ("PATCH", RESIZE, containers({**resources(), "name": "amf"}), MERGE, 422),
        ("PATCH", RESIZE, containers({**resources(), "image": "upf:2"}), MERGE, 422),
        ("PATCH", RESIZE, containers(resources("250m", "250m", memory="1Gi")), MERGE, 422),
        ("PATCH", POD, containers(resources()), MERGE, 422),
        ("PATCH", f"{PODS}/upf-1/resize", containers(resources()), MERGE, 404),
        ("PUT", RESIZE, b"{}", "application/json", 405),
        ("DELETE", POD, b"", "", 405),
        ("GET", f"{POD}/resizes", b"", "", 404),
        ("GET", "/api/v1/nodes", b"", "", 404),
        ("GET", f"{PODS}?watch=1", b"", "", 400),
    ],
)
async def test_what_the_api_refuses_is_refused(method, path, body, content_type, status):
    async with FakeKubernetes().serving() as cluster, aiohttp.ClientSession() as session:
        cluster.allowed |= {"patch pods", "update pods/resize", "delete pods", "get pods/resizes"}
        pod = cluster.add(memory=("1Gi", "1Gi"))
        before = json.dumps(pod)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
        url = f"http://127.0.0.1:{cluster.port}{path}"
        async with session.request(method, url, data=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["kind"]) == (status, "Pod" if status == 200 else "Status")
        assert (json.dumps(pod) == before) is (status != 200)


def review(**changes):
    what = {"verb": "patch", "resource": "pods", "subresource": "resize", "namespace": "core", **changes}
    spec = {"resourceAttributes": what} if changes.get("verb") != "none" else {}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}


@pytest.mark.parametrize(
    ("body", "status", "allowed"),
    [
        (review(), 201, True),
        (review(name="upf-0"), 201, True),
        (review(verb="update"), 201, False),
        (review(namespace="edge"), 201, False),
        (review(group="apps"), 201, False),
        (review(subresource=""), 201, False),
        (review(verb="none"), 422, None),
        (review(what="pods"), 400, None),
        (review() | {"kind": "SubjectAccessReview"}, 400, None),
    ],
)
async def test_an_account_may_ask_what_it_may_do(body, status, allowed):
    async with FakeKubernetes().serving() as cluster, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"http://127.0.0.1:{cluster.port}{REVIEWS}"
        async with session.post(url, json=body, headers=headers) as answer:
            said = await answer.json()
            assert (answer.status, said["status"].get("allowed") if status == 201 else None) == (status, allowed)
        async with session.get(url, headers=headers) as answer:
            assert answer.status == 405
        async with session.post(url, json=body) as answer:
            assert answer.status == 401


@pytest.mark.parametrize("has_resize", [True, False])
async def test_what_there_is_can_be_asked_for(has_resize):
    async with FakeKubernetes().serving() as cluster, aiohttp.ClientSession() as session:
        cluster.has_resize = has_resize
        url = f"http://127.0.0.1:{cluster.port}/api/v1/"
        async with session.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            names = {one["name"] for one in (await answer.json())["resources"]}
        assert ("pods" in names, "pods/resize" in names) == (True, has_resize)


async def test_nobody_without_token_or_right_gets_anything():
    async with FakeKubernetes().serving() as cluster, aiohttp.ClientSession() as session:
        cluster.add()
        url = f"http://127.0.0.1:{cluster.port}{POD}"
        async with session.get(url) as answer:
            assert answer.status == 401
        cluster.allowed.clear()
        async with session.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 403
