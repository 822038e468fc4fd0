"""The API server that stands in for the real one refuses as that does."""

import json

import aiohttp
import pytest

from fakes.kubernetes import TOKEN, FakeKubernetes

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


async def test_nobody_without_token_or_right_gets_anything():
    async with FakeKubernetes().serving() as cluster, aiohttp.ClientSession() as session:
        cluster.add()
        url = f"http://127.0.0.1:{cluster.port}{POD}"
        async with session.get(url) as answer:
            assert answer.status == 401
        cluster.allowed.clear()
        async with session.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 403
