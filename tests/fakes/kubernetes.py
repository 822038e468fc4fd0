"""An API server of Kubernetes on a loopback port, as strict as the real one about pods and their resize."""

import asyncio
import json
from contextlib import asynccontextmanager

import yaml
from aiohttp import web

from fakes.kubernetes_pods import (
    IMMUTABLE,
    Kubelet,
    Refused,
    check_resize,
    check_version,
    invalid,
    merged,
    new_pod,
)
from microopt_actuator import registry
from microopt_actuator.settings import ActuatorSettings, KubernetesSettings

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105
MEDIA = (
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, "
    "application/apply-patch+yaml, application/apply-patch+cbor"
)
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class FakeKubernetes:
    """Pods of one cluster; `requests` are those that came, by method, path and body.

    `allowed` is what the account may do, `broken` a status with which everything is answered, `has_resize` whether
    the server is new enough, `refuses` what an admission plugin has against every resize, and `before_patch` what
    happens between a look at a pod and the patch that comes next.
    """

    def __init__(self):
        self.port = 0
        self.token = TOKEN
        self.requests = []
        self.allowed = {"get pods", "list pods", "patch pods/resize"}
        self.says_of_denials = ""
        self.has_resize = True
        self.broken = None
        self.refuses = ""
        self.hangs = False
        self.before_patch = []
        self.kubelet = Kubelet(self.touch)
        self._pods = {}
        self._version = 1000
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def serving(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._freed.set()
            await runner.cleanup()

    def kubeconfig(self, folder, token=TOKEN):
        """Write a kubeconfig of this cluster, and return its path."""
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "microopt", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "one", "user": "microopt"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def add(self, name="upf-0", *, request="100m", limit="1", memory=("1Gi", "2Gi"), policy=None, **labels):
        """Make a pod with a container `upf`, or put one in the place of another of this name."""
        resources = {"requests": {"memory": memory[0]}, "limits": {"memory": memory[1]}}
        if request:
            resources["requests"]["cpu"] = request
        if limit:
            resources["limits"]["cpu"] = limit
        container = {"name": "upf", "image": "upf:1", "resources": resources}
        if policy:
            container["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": policy}]
        return self.add_pod(name, [container], labels)

    def add_pod(self, name, containers, labels):
        self._version += 1
        self._pods["core", name] = pod = new_pod(name, "core", labels, containers, self._version)
        return pod

    def remove(self, name):
        del self._pods["core", name]

    def touch(self, pod):
        """Let a pod be another version, as each write does."""
        self._version += 1
        pod["metadata"]["resourceVersion"] = str(self._version)

    def patches(self):
        """Return the bodies of all patches that were taken."""
        return [body for method, _, body, code in self.requests if method == "PATCH" and code == 200]

    async def _answer(self, request):
        raw = await request.read()
        code, content = 200, None
        try:
            if self.hangs:
                await self._freed.wait()
            content = self._content(request, raw)
        except Refused as error:
            code = error.code
            content = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": str(error),
                "reason": error.reason,
                "code": code,
            }
        if code == 200 and request.method == "POST":
            code = 201
        body = json.loads(raw) if raw and code in (200, 201) else raw
        self.requests.append((request.method, request.path_qs, body, code))
        return web.json_response(content, status=code)

    def _content(self, request, raw):
        if self.broken:
            raise Refused(self.broken, "InternalError", "etcdserver: request timed out")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        if request.path == REVIEWS:
            return self._review(request.method, raw)
        match request.path.split("/"):
            case ["", "api", "v1"] | ["", "api", "v1", ""] if request.method == "GET":
                names = ["pods", "pods/log", "pods/status", *(["pods/resize"] if self.has_resize else [])]
                found = [{"name": name, "namespaced": True, "kind": "Pod", "verbs": []} for name in names]
                return {"kind": "APIResourceList", "groupVersion": "v1", "resources": found}
            case ["", "api", "v1", "namespaces", namespace, "pods"]:
                name, sub = "", ""
            case ["", "api", "v1", "namespaces", namespace, "pods", name]:
                sub = ""
            case ["", "api", "v1", "namespaces", namespace, "pods", name, sub]:
                pass
            case _:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
        resource = f"pods/{sub}" if sub else "pods"
        verb = "list" if request.method == "GET" and not name else VERBS.get(request.method, request.method)
        self._authorize(verb, resource, namespace, name)
        if sub and (sub != "resize" or not self.has_resize):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if verb == "list":
            return self._list(namespace, request.query)
        if verb not in ("get", "patch"):
            raise Refused(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        if verb == "patch" and self.before_patch:
            self.before_patch.pop()()
        if (namespace, name) not in self._pods:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        pod = self._pods[namespace, name]
        return pod if verb == "get" else self._patch(pod, sub, request, raw)

    def _review(self, method, raw):
        """Answer what an account may do, which every account may ask of itself."""
        if method != "POST":
            raise Refused(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        try:
            review = json.loads(raw)
        except ValueError as error:
            raise Refused(400, "BadRequest", f"error decoding: {error}") from error
        if (review.get("apiVersion"), review.get("kind")) != (
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
        ):
            raise Refused(400, "BadRequest", f"{review.get('kind')!r} is not a SelfSubjectAccessReview")
        what = review.get("spec", {}).get("resourceAttributes")
        if not what:
            text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise Refused(422, "Invalid", f"SelfSubjectAccessReview.authorization.k8s.io is invalid: spec: {text}")
        if unknown := set(what) - {"namespace", "name", "verb", "group", "resource", "subresource"}:
            raise Refused(400, "BadRequest", f"this fake knows no {unknown}")
        resource = "/".join(filter(None, [what.get("resource", ""), what.get("subresource", "")]))
        is_core = what.get("group", "") == "" and what.get("namespace") == "core"
        status = {"allowed": is_core and f"{what.get('verb', '')} {resource}" in self.allowed}
        if not status["allowed"]:
            status["reason"] = self.says_of_denials
        return review | {"metadata": {}, "status": {key: it for key, it in status.items() if it != ""}}

    def _authorize(self, verb, resource, namespace, name):
        if f"{verb} {resource}" in self.allowed:
            return
        what = f'pods "{name}"' if name else "pods"
        raise Refused(
            403,
            "Forbidden",
            f'{what} is forbidden: User "system:serviceaccount:core:microopt" cannot {verb} resource "{resource}" '
            f'in API group "" in the namespace "{namespace}"',
        )

    def _list(self, namespace, query):
        if unknown := set(query) - {"labelSelector", "limit"}:
            raise Refused(400, "BadRequest", f"this fake knows no {unknown}")
        wanted = [one.split("=") for one in query.get("labelSelector", "").split(",") if one]
        found = [
            pod
            for (where, _), pod in sorted(self._pods.items())
            if where == namespace and all(pod["metadata"]["labels"].get(key) == value for key, value in wanted)
        ]
        limit = int(query.get("limit", "0")) or len(found)
        metadata = {"resourceVersion": str(self._version)}
        if len(found) > limit:
            metadata |= {"continue": "more", "remainingItemCount": len(found) - limit}
        return {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": found[:limit]}

    def _patch(self, pod, sub, request, raw):
        if request.content_type not in MEDIA.split(", "):
            raise Refused(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format - accepted media types include: {MEDIA}",
            )
        if request.content_type != "application/strategic-merge-patch+json":
            raise Refused(501, "NotImplemented", "this fake knows strategic merges only")
        try:
            patch = json.loads(raw)
        except ValueError as error:
            raise Refused(400, "BadRequest", f"error decoding patch: {error}") from error
        check_version(pod, patch)
        after = merged(pod, patch)
        if not sub:
            if after["spec"] != pod["spec"]:
                raise invalid(pod, IMMUTABLE)
            return pod
        check_resize(pod, after)
        if self.refuses:
            raise Refused(403, "Forbidden", f'pods "{pod["metadata"]["name"]}" is forbidden: {self.refuses}')
        if after["spec"] != pod["spec"]:
            pod["spec"] = after["spec"]
            pod["metadata"]["generation"] += 1
            self.touch(pod)
            self.kubelet.see(pod)
        return pod


def opened(cluster, folder, **changes):
    """Open the driver for a cluster, with any setting changed."""
    fields = {"kubeconfig": str(cluster.kubeconfig(folder)), "settle_s": 5.0, "timeout_s": 5.0}
    settings = ActuatorSettings(kubernetes=KubernetesSettings(**{**fields, **changes}))
    return registry.opened("kubernetes", settings, None)


async def hold(driver, target, value):
    """Put a value in force as the actuator does, and return what was planned."""
    write = await driver.plan(target, value)
    await driver.apply(write)
    return write
