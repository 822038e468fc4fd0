"""Asking the Kubernetes API for pods, their resizes, and our right to them.

kubernetes-asyncio knows the calls and their credentials. What the API answers is read here, bounded in size and
decoded to the few fields that matter: the library would read without bounds, and refuse a whole pod for one value
that it does not know.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from kubernetes_asyncio import client
from kubernetes_asyncio.config import ConfigException
from msgspec import Struct

from microopt.errors import ConfigError, MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.kubernetes_pod import Pod, PodList
from microopt_actuator.drivers.kubernetes_resize import Json
from microopt_actuator.drivers.kubernetes_target import PodTarget

MAX_PODS: Final = 50
"""What a label selector may match."""
_MAX_ANSWER: Final = 16 << 20
_MAX_TEXT: Final = 500
_FIELD_MANAGER: Final = "microopt"
_MERGE: Final = "application/strategic-merge-patch+json"

_TOO_OLD: Final = (
    "the API server has no resize of pods; it needs Kubernetes 1.33 or newer, or bind the resource to the driver "
    "cgroup on the pod's node"
)
_GRANT: Final = "give the actuator's account this verb by a Role, see docs/operations.md"

Connect = Callable[[], Awaitable[client.ApiClient]]

_T = TypeVar("_T")


class ConflictError(TemporaryError):
    """The pod is no longer the version that was to be changed."""


class NotFoundError(TemporaryError):
    """There is no such thing now."""


class _Status(Struct, frozen=True):
    """What the API says when it refuses."""

    message: str = ""


class _Resource(Struct, frozen=True):
    name: str


class _Resources(Struct, frozen=True):
    """What the API server has."""

    resources: list[_Resource]


class _Verdict(Struct, frozen=True):
    allowed: bool
    reason: str = ""


class _Review(Struct, frozen=True):
    status: _Verdict


class KubernetesApi:
    """Gets pods and resizes them.

    Args:
        connect: makes a client with the credentials of now; called again when the API no longer takes those.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, connect: Connect, timeout_s: float) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._client: client.ApiClient | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Make a client unless there is one.

        Raises:
            ConfigError: there are no credentials that can be used.
        """
        async with self._opening:
            if self._client is None:
                self._client = await self._connect()

    async def close(self) -> None:
        """Close the connections."""
        former, self._client = self._client, None
        if former is not None:
            await former.close()

    async def pods(self, target: PodTarget) -> list[Pod]:
        """Return the pods that a target names; for a label selector there may be none.

        Raises:
            TemporaryError: there is no pod of this name now, or the API does not answer.
            PermanentError: the API refuses, or a selector matches too many pods.
        """
        if target.pod:
            doing = f"{target}: get pod"
            return [await self._ask("read_namespaced_pod", Pod, doing, target.pod, target.namespace)]
        found = await self._ask(
            "list_namespaced_pod",
            PodList,
            f"{target}: list pods",
            target.namespace,
            label_selector=target.selector,
            limit=MAX_PODS,
        )
        if found.metadata.get("continue"):
            raise PermanentError(
                f"kubernetes {target}: more than {MAX_PODS} pods match; write a narrower selector"
            )
        return found.items

    async def why_no_resize(self, target: PodTarget) -> str:
        """Return what keeps our account from resizing the target's pods, with the remedy; empty is nothing.

        Raises:
            TemporaryError: the API does not answer.
            PermanentError: it does not let us ask.
        """
        there = await self._ask("get_api_resources", _Resources, f"{target}: ask what there is")
        if all(one.name != "pods/resize" for one in there.resources):
            return f"kubernetes {target}: {_TOO_OLD}"
        what = {"verb": "patch", "group": "", "resource": "pods", "subresource": "resize"}
        what |= {"namespace": target.namespace} | ({"name": target.pod} if target.pod else {})
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": what},
        }
        doing = f"{target}: ask whether we may patch pods/resize"
        call = "create_self_subject_access_review"
        said = (await self._ask(call, _Review, doing, review, of=client.AuthorizationV1Api)).status
        if said.allowed:
            return ""
        reason = f" ({said.reason})" if said.reason else ""
        return f"kubernetes {target}: our account cannot patch pods/resize in {target.namespace}{reason}; {_GRANT}"

    async def resize(self, target: PodTarget, pod: Pod, patch: Json) -> Pod:
        """Return the pod once the API has taken `patch`.

        Raises:
            ConflictError: it is no longer that version of the pod.
            TemporaryError: the pod is gone, or the API does not answer.
            PermanentError: the API refuses, or it is too old.
        """
        name, doing = pod.metadata.name, f"{target}: patch pods/resize of {pod.metadata.name}"
        call = "patch_namespaced_pod_resize"
        options = {"field_manager": _FIELD_MANAGER, "_content_type": _MERGE}
        try:
            return await self._ask(call, Pod, doing, name, target.namespace, patch, **options)
        except NotFoundError:
            await self._ask("read_namespaced_pod", Pod, f"{target}: get pod", name, target.namespace)
        raise PermanentError(f"kubernetes {doing}: the pod is there, but {_TOO_OLD}")

    async def _ask(self, call: str, kind: type[_T], doing: str, *args: object, **options: Any) -> _T:
        """Return what the API answers to one of the library's calls.

        Raises:
            TemporaryError: no answer, or one that may be another later.
            PermanentError: the API refuses.
        """
        try:
            status, reason, body = await self._answer(call, *args, **options)
        except TimeoutError:
            raise TemporaryError(f"kubernetes {doing}: no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ConfigError, ConfigException) as error:
            raise TemporaryError(f"kubernetes {doing}: {error or type(error).__name__}") from None
        if status == 401:
            await self.close()  # the next call begins with the credentials of then
        if status >= 300:
            raise refusal(status, reason, body, doing)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TemporaryError(f"kubernetes {doing}: the answer is no {kind.__name__}: {error}") from error

    async def _answer(
        self, call: str, *args: object, of: type[Any] = client.CoreV1Api, **options: object
    ) -> tuple[int, str, bytes]:
        await self.open()
        ask = getattr(of(self._client), call)
        async with asyncio.timeout(self._timeout_s):
            answer: Any = await ask(*args, _preload_content=False, **options)
            async with answer:
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > _MAX_ANSWER:
                        raise aiohttp.ClientPayloadError(f"an answer of more than {_MAX_ANSWER} bytes")
        return answer.status, str(answer.reason), bytes(body)


def refusal(status: int, reason: str, body: bytes, doing: str) -> MicrooptError:
    """Return the error for an answer that is not what was asked for; what the API says of it is kept.

    Args:
        status: the status code of HTTP.
        reason: its words.
        body: a `Status` of Kubernetes, or whatever a proxy on the way has written.
        doing: what was asked for.
    """
    message = _message(body) or reason
    said = f"kubernetes {doing}: {status}: {message}"
    if status == 401:
        return PermanentError(f"{said}; renew the credentials in the kubeconfig, or the service account's token")
    if status == 403 and " cannot " in message:
        return PermanentError(f"{said}; {_GRANT}")
    if status == 403 and "exceeded quota" in message:
        return TemporaryError(f"{said}; raise the namespace's ResourceQuota or lower the slice's ceiling")
    if status == 404:
        return NotFoundError(said)
    if status == 409:
        return ConflictError(said)
    if status in (408, 429) or status >= 500:
        return TemporaryError(said)
    return PermanentError(said)


def _message(body: bytes) -> str:
    try:
        message = msgspec.json.decode(body, type=_Status).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = body.decode(errors="replace").strip()
    return message[:_MAX_TEXT]
