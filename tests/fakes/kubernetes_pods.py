"""Pods as the API server of Kubernetes 1.35 keeps them, what it refuses of a resize, and a kubelet."""

import asyncio
import copy
import re
import uuid

MEGA = {"Mi": 2**20, "Gi": 2**30}
IMMUTABLE = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


class Refused(Exception):
    """An answer of the API that is no success."""

    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason = code, reason


def amount(name, text):
    """Return millicores of CPU or bytes of memory; what the driver would not write is no quantity here."""
    if name == "cpu" and (found := re.fullmatch(r"(\d+)(m?)", text)):
        return int(found[1]) * (1 if found[2] else 1000)
    if name == "memory" and (found := re.fullmatch(r"(\d+)(Mi|Gi)", text)):
        return int(found[1]) * MEGA[found[2]]
    raise Refused(
        400,
        "BadRequest",
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    )


def canonical(name, text):
    value = amount(name, text)
    if name != "cpu":
        return text
    return str(value // 1000) if value % 1000 == 0 else f"{value}m"


def new_pod(name, namespace, labels, containers, version):
    """Return a pod that runs with what its template says."""
    statuses = [
        {
            "name": one["name"],
            "ready": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            "allocatedResources": one["resources"].get("requests", {}),
            "resources": copy.deepcopy(one["resources"]),
        }
        for one in containers
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "labels": labels,
            "generation": 1,
            "resourceVersion": str(version),
        },
        "spec": {"nodeName": "node-1", "restartPolicy": "Always", "containers": containers},
        "status": {"phase": "Running", "qosClass": qos_class(containers), "containerStatuses": statuses},
    }


def qos_class(containers):
    every = [one["resources"] for one in containers]
    if not any(own.get("limits") or own.get("requests") for own in every):
        return "BestEffort"
    for own in every:
        for name in ("cpu", "memory"):
            limit, request = own.get("limits", {}).get(name), own.get("requests", {}).get(name)
            if limit is None or request is None or amount(name, limit) != amount(name, request):
                return "Burstable"
    return "Guaranteed"


def merged(pod, patch):
    """Return `pod` with a strategic merge patch."""
    after = copy.deepcopy(pod)
    for key, value in patch.get("spec", {}).items():
        if key != "containers":
            after["spec"][key] = value
            continue
        for one in value:
            if "name" not in one:
                raise Refused(400, "BadRequest", "map: map[] does not contain declared merge key: name")
            known = [mine for mine in after["spec"]["containers"] if mine["name"] == one["name"]]
            mine = known[0] if known else {"name": one["name"], "resources": {}}
            if not known:
                after["spec"]["containers"].insert(0, mine)
            for field, new in one.items():
                if field != "resources":
                    mine[field] = new
            for kind, quantities in one.get("resources", {}).items():
                own = mine["resources"].setdefault(kind, {})
                own.update({name: canonical(name, text) for name, text in quantities.items()})
    return after


def check_version(pod, patch):
    wanted = patch.get("metadata", {}).get("resourceVersion")
    if wanted not in (None, pod["metadata"]["resourceVersion"]):
        raise Refused(
            409,
            "Conflict",
            f'Operation cannot be fulfilled on pods "{pod["metadata"]["name"]}": the object has been modified; '
            "please apply your changes to the latest version and try again",
        )


def invalid(pod, what):
    return Refused(422, "Invalid", f'Pod "{pod["metadata"]["name"]}" is invalid: {what}')


def check_resize(pod, after):
    """Refuse what the resize subresource refuses of the change from `pod` to `after`."""
    before, now = pod["spec"]["containers"], after["spec"]["containers"]
    if qos_class(before) != qos_class(now):
        what = f'spec: Invalid value: "{qos_class(now)}": Pod QOS Class may not change as a result of resizing'
        raise invalid(pod, what)
    if any(one["state"].get("running") and "resources" not in one for one in pod["status"]["containerStatuses"]):
        raise invalid(pod, "spec: Forbidden: Pod running on node without support for resize")
    if [one["name"] for one in before] != [one["name"] for one in now]:
        raise invalid(pod, "spec.containers: Forbidden: containers may not be added or removed on resize")
    for index, one in enumerate(now):
        own = one["resources"]
        for name, limit in own.get("limits", {}).items():
            request = own.get("requests", {}).get(name, limit)
            if amount(name, request) > amount(name, limit):
                where = f"spec.containers[{index}].resources.requests"
                text = f"must be less than or equal to {name} limit of {limit}"
                raise invalid(pod, f'{where}: Invalid value: "{request}": {text}')
    if without_resources(pod) != without_resources(after):
        raise invalid(pod, "spec: Forbidden: only cpu and memory resources are mutable")


def without_resources(pod):
    spec = copy.deepcopy(pod["spec"])
    for one in spec["containers"]:
        del one["resources"]
    return spec


class Kubelet:
    """Puts resizes in force, after a while and as far as its node has room."""

    def __init__(self, touch):
        self.delay_s = 0.0
        self.works = True
        self.capacity = 16_000
        self.free = 16_000
        self.rounds_up = False
        self.dates_conditions = True
        self.error = ""
        self._touch = touch

    def see(self, pod):
        """Take note of a new generation of `pod`, as watches bring it."""
        if self.works:
            asyncio.get_running_loop().call_later(self.delay_s, self._allocate, pod, pod["metadata"]["generation"])

    def retry(self, pod):
        """Look again at what was deferred."""
        self._allocate(pod, pod["metadata"]["generation"])

    def _allocate(self, pod, generation):
        if pod["metadata"]["generation"] != generation:
            return
        pod["status"]["observedGeneration"] = generation
        limits = [one["resources"].get("limits", {}).get("cpu", "0") for one in pod["spec"]["containers"]]
        most = max(amount("cpu", limit) for limit in limits)
        if most > self.capacity:
            text = f"Node didn't have enough capacity: cpu, requested: {most}, capacity: {self.capacity}"
            self._say(pod, "PodResizePending", "Infeasible", text)
        elif most > self.free:
            text = f"Node didn't have enough resource: cpu, requested: {most}, used: 0, capacity: {self.free}"
            self._say(pod, "PodResizePending", "Deferred", text)
        elif self.error:
            self._say(pod, "PodResizeInProgress", "Error", self.error)
        else:
            self._say(pod, "PodResizeInProgress", "", "")
            asyncio.get_running_loop().call_later(self.delay_s, self._actuate, pod, generation)

    def _actuate(self, pod, generation):
        if pod["metadata"]["generation"] != generation:
            return
        for one, status in zip(pod["spec"]["containers"], pod["status"]["containerStatuses"], strict=True):
            if status["resources"] == one["resources"]:
                continue
            status["resources"] = copy.deepcopy(one["resources"])
            status["allocatedResources"] = one["resources"].get("requests", {})
            limits = status["resources"]["limits"]
            if self.rounds_up:
                limits["cpu"] = f"{-(-amount('cpu', limits['cpu']) // 10) * 10}m"
            policies = {it["resourceName"]: it["restartPolicy"] for it in one.get("resizePolicy", [])}
            status["restartCount"] += policies.get("cpu") == "RestartContainer"
        pod["status"]["conditions"] = []
        self._touch(pod)

    def _say(self, pod, kind, reason, message):
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        if self.dates_conditions:
            condition["observedGeneration"] = pod["metadata"]["generation"]
        pod["status"]["conditions"] = [{key: value for key, value in condition.items() if value != ""}]
        self._touch(pod)
