"""The resize of a container's CPU: what is asked of the API, what that refuses, how far the kubelet has come."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import msgspec
from msgspec import structs

from microopt.errors import PermanentError, TemporaryError
from microopt_actuator.drivers.kubernetes_pod import Condition, Container, Pod, Resources, millicores, qos_class

MIN_MILLICORES: Final = 10
"""The kubelet gives no less: a quota is 1 ms in each 100 ms at least."""
MAX_MILLICORES: Final = 10_000_000
_SYSTEMD_MILLICORES: Final = 10
"""Where systemd keeps the cgroups, a limit is rounded up to whole percents of a core."""

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Resize:
    """A CPU limit and request for one container of a pod, in millicores.

    `wanted` is the request that the container had before a low limit took it down with it.
    """

    pod: Pod
    container: str
    limit: int
    request: int
    wanted: int

    @property
    def is_asked_for(self) -> bool:
        """Return whether the pod's specification has this limit already."""
        return millicores(self.pod.container(self.container).resources.limits) == self.limit

    def body(self) -> Json:
        """Return the patch, as a strategic merge: what it does not name stays.

        It names the version of the pod for which request and QoS class were worked out; another one is a conflict.
        """
        return {"metadata": {"resourceVersion": self.pod.metadata.resource_version}, **self._patch()}

    def said(self, namespace: str) -> str:
        """Return the command that does the same."""
        patch = msgspec.json.encode(self._patch()).decode()
        return f"kubectl -n {namespace} patch pod {self.pod.metadata.name} --subresource resize --patch '{patch}'"

    def _patch(self) -> Json:
        resources = {"requests": {"cpu": f"{self.request}m"}, "limits": {"cpu": f"{self.limit}m"}}
        return {"spec": {"containers": [{"name": self.container, "resources": resources}]}}


def checked_limit(value: float) -> int:
    """Return a value in millicores as the limit to ask for: a whole number, rounded up.

    Raises:
        PermanentError: no container can have it.
    """
    if not (math.isfinite(value) and MIN_MILLICORES <= value <= MAX_MILLICORES):
        raise PermanentError(
            f"{value} millicores is outside {MIN_MILLICORES} to {MAX_MILLICORES}, which a kubelet can give; "
            "set the slice's bounds within"
        )
    return math.ceil(round(value, 6))  # what was computed to be whole must not become one more


def shown(limit: int) -> tuple[float, float]:
    """Return what a kubelet shows of `limit`, and how far off that may be: as it is, or as systemd rounds it."""
    most = _rounded(limit)
    return (limit + most) / 2, (most - limit) / 2 + 0.5


def planned(pod: Pod, name: str, limit: int, wanted: int | None = None, *, allow_restart: bool = False) -> Resize:
    """Return the resize that gives a container `limit` and leaves the pod's QoS class as it is.

    Args:
        pod: the pod.
        name: the container's name.
        limit: CPU in millicores.
        wanted: the request that the container had once; `None` is the one it has.
        allow_restart: whether a container may be restarted by it.

    Raises:
        TemporaryError: the kubelet does not say what the container has.
        PermanentError: there is no such container, or it cannot have this limit; the text names the remedy.
    """
    container = pod.container(name)
    now = millicores(container.resources.requests)
    where = f"pod {pod.metadata.name}: container {name}"
    if now is None:
        raise PermanentError(
            f"{where} has no CPU request, so that a limit would reserve as much, or change the pod's QoS class, "
            "which the API refuses; give its template a CPU request below its limit"
        )
    limit_now = millicores(container.resources.limits)
    if limit_now != limit and _restarts(container) and not allow_restart:
        raise PermanentError(
            f"{where} has the resizePolicy RestartContainer for cpu: each change would restart it; give its "
            "template NotRequired, or set allow_restart in [actuator.kubernetes]"
        )
    if wanted is None:
        wanted = math.ceil(now)
    request = _request(pod, container, limit, wanted)
    if request is None:
        raise PermanentError(
            f"{where}: a limit of {limit}m would change the QoS class of the pod, which the API refuses; "
            "give its template CPU and memory requests below their limits"
        )
    return Resize(pod, name, limit, request, wanted)


def actuated(pod: Pod, name: str) -> float | None:
    """Return the limit in millicores that a container has in the words of its kubelet; `None` is no limit.

    Raises:
        TemporaryError: the kubelet does not say.
    """
    status = pod.status_of(name)
    if status is None or status.resources is None:
        raise TemporaryError(
            f"pod {pod.metadata.name}: the kubelet does not say what container {name} has; it does so "
            "once the container runs, from Kubernetes 1.33 on"
        )
    limit = millicores(status.resources.limits)
    return None if limit is None else float(limit)


def in_common(limits: list[float | None]) -> float | None:
    """Return the least of `limits` if no more than rounding is between them, else None: there is no one value."""
    known = [limit for limit in limits if limit is not None]
    if not known or len(known) < len(limits):
        return None
    least = min(known)
    return least if max(known) <= _rounded(least) else None


def is_done(resize: Resize, pod: Pod, *, last_look: bool) -> bool:
    """Return whether the kubelet has put `resize` in force, by a later look at the `pod`.

    A condition that does not say of which generation it is may be left from another resize; it is believed only at
    the `last_look`.

    Raises:
        TemporaryError: it is deferred, as the node has no room now, or the kubelet has failed and tries again.
        PermanentError: it is infeasible: the node will never have room.
    """
    what = f"pod {pod.metadata.name}: {resize.limit} millicores for container {resize.container}"
    if not pod.runs(resize.container):
        if last_look:
            raise TemporaryError(f"{what} is not in force yet, the container does not run")
        return False
    limit = actuated(pod, resize.container)
    middle, slack = shown(resize.limit)
    if limit is not None and abs(limit - middle) <= slack:
        return True
    pending = _condition(pod, "PodResizePending", resize.pod.metadata.generation, undated=last_look)
    if pending is not None and pending.reason == "Infeasible":
        raise PermanentError(
            f"{what} is infeasible: {pending.message}; lower the slice's ceiling or move the pod to a larger node"
        )
    if pending is not None:
        raise TemporaryError(f"{what} is pending ({pending.reason}): {pending.message}")
    if last_look:
        going_on = _condition(pod, "PodResizeInProgress", resize.pod.metadata.generation, undated=True)
        why = f"; {going_on.reason or 'in progress'} {going_on.message}".rstrip() if going_on is not None else ""
        has = "no limit" if limit is None else f"{limit:g}"
        raise TemporaryError(f"{what} is not in force yet, the kubelet says {has}{why}")
    return False


def _request(pod: Pod, container: Container, limit: int, wanted: int) -> int | None:
    """Return the CPU request that goes with `limit` in the QoS class that the pod has, None if there is none."""
    if pod.spec.resources.limits or pod.spec.resources.requests:
        return min(wanted, limit)  # the class is that of what the containers share
    now = qos_class(_all(pod))
    if now == "Guaranteed":
        return limit
    for request in (min(wanted, limit), min(wanted, limit - 1)):
        resources = Resources(
            {**container.resources.limits, "cpu": f"{limit}m"},
            {**container.resources.requests, "cpu": f"{request}m"},
        )
        after = structs.replace(container, resources=resources)
        if qos_class([after if one is container else one for one in _all(pod)]) == now:
            return request
    return None


def _all(pod: Pod) -> list[Container]:
    return [*pod.spec.containers, *pod.spec.init_containers]


def _restarts(container: Container) -> bool:
    policies = {one.resource_name: one.restart_policy for one in container.resize_policy}
    return policies.get("cpu") == "RestartContainer"


def _condition(pod: Pod, kind: str, generation: int, *, undated: bool) -> Condition | None:
    """Return a condition that is true of this generation or a later one."""
    for one in pod.status.conditions:
        if one.type == kind and one.status == "True":
            known = one.observed_generation
            return one if (undated and not known) or known >= max(generation, 1) else None
    return None


def _rounded(limit: float) -> int:
    return math.ceil(Fraction(limit) / _SYSTEMD_MILLICORES) * _SYSTEMD_MILLICORES
