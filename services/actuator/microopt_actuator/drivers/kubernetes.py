"""CPU limits of containers by Kubernetes' in-place pod resize (KEP-1287), in millicores: `core/app=upf/upf`.

Where a target names several pods, each of them gets the value. A pod that is made anew has the limits of its
template until it is seen at the next reading. CPU requests go down with a limit and come back with it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from microopt.agent import Context
from microopt.errors import MicrooptError, PermanentError, TemporaryError
from microopt_actuator.drivers.base import Access, Driver, Write
from microopt_actuator.drivers.kubernetes_access import connected
from microopt_actuator.drivers.kubernetes_api import ConflictError, KubernetesApi
from microopt_actuator.drivers.kubernetes_pod import Pod, millicores
from microopt_actuator.drivers.kubernetes_resize import (
    Resize,
    actuated,
    checked_limit,
    in_common,
    is_done,
    planned,
    shown,
)
from microopt_actuator.drivers.kubernetes_target import PodTarget, parse_target
from microopt_actuator.settings import ActuatorSettings

_TRIES: Final = 3
"""The kubelet writes a pod's status now and then; a conflict with that is over by the next try."""
_LOOK_EVERY_S: Final = (0.05, 0.1, 0.2, 0.4)


class KubernetesDriver:
    """The `Driver` for CPU by pod resize, in millicores.

    Args:
        api: the API; it belongs to the caller.
        settle_s: how long to wait for the kubelet to put a resize in force.
        allow_restart: resize also containers that are restarted by it.
    """

    name = "kubernetes"
    unit = "millicores"

    def __init__(self, api: KubernetesApi, settle_s: float, *, allow_restart: bool = False) -> None:
        self._api = api
        self._settle_s = settle_s
        self._allow_restart = allow_restart
        self._requests = _Requests()

    async def plan(self, target: str, value: float) -> Write:
        """Return the patches that limit the target's containers.

        Raises:
            TemporaryError: no such container runs now, or the API does not answer.
            PermanentError: the value or target cannot be, or the API refuses to show the pods.
        """
        where = parse_target(target)
        limit = _limit(where, value)
        pods = await self._running(where)
        resizes = [self._planned(where, pod, limit) for pod in pods]
        holds, tolerance = shown(limit)
        steps = tuple(resize.said(where.namespace) for resize in resizes if not resize.is_asked_for)
        uids = sorted(pod.metadata.uid for pod in pods)
        return Write(target, value, holds, tolerance, steps, thing=" ".join(uids))

    async def apply(self, write: Write) -> None:
        """Resize what does not have the limit yet, and wait for the kubelets to do it.

        Raises:
            TemporaryError: the API does not answer, or a node has no room now.
            PermanentError: the API refuses, or a node never has room.
        """
        where = parse_target(write.target)
        limit = _limit(where, write.value)
        pods = await self._running(where)
        self._requests.keep_only(write.target, {pod.metadata.uid for pod in pods})
        resizes: list[Resize] = []
        errors: list[MicrooptError] = []
        for pod in pods:
            try:
                resizes.append(await self._resize(where, pod, limit))
            except MicrooptError as error:  # one pod in trouble must not hold up the others
                errors.append(error)
        errors += await self._follow(where, resizes)
        if errors:
            raise _worst(errors)

    async def read(self, target: str) -> float | None:
        """Return the limit that the kubelets say is in force; `None` is no limit, or not the same in all pods.

        Raises:
            TemporaryError: no such container runs now, the API does not answer, or the kubelet does not say.
            PermanentError: the target cannot be, or the API refuses to show the pods.
        """
        where = parse_target(target)
        pods = await self._running(where)
        with _about(where):
            return in_common([actuated(pod, where.container) for pod in pods])

    async def access(self, target: str) -> Access:
        """Return whether the account of this process has the verb for it.

        Raises:
            TemporaryError: the API does not answer.
            PermanentError: the target cannot be.
        """
        where = parse_target(target)
        try:
            why = await self._api.why_no_resize(where)
        except PermanentError as error:
            return Access(writable=None, why=str(error))
        return Access(writable=not why, why=why)

    def absent(self, target: str) -> str:
        """Return a pod of the same namespace that there is not, or labels that no pod has."""
        where = parse_target(target)
        if where.pod:
            return str(replace(where, pod="microopt-none"))
        return str(replace(where, selector=f"{where.selector},microopt=none"))

    async def _running(self, where: PodTarget) -> list[Pod]:
        """Return the target's pods in which the container runs."""
        pods = await self._api.pods(where)
        running = [pod for pod in pods if pod.runs(where.container)]
        if not running:
            with _about(where):
                for pod in pods[:1]:
                    pod.container(where.container)
                raise TemporaryError("no such container runs now; it may be starting or ending, or have no pod")
        return running

    def _planned(self, where: PodTarget, pod: Pod, limit: int) -> Resize:
        with _about(where):
            wanted = self._requests.wanted(str(where), pod, where.container)
            return planned(pod, where.container, limit, wanted, allow_restart=self._allow_restart)

    async def _resize(self, where: PodTarget, pod: Pod, limit: int) -> Resize:
        """Ask for the limit unless it has been asked for, and return what to wait for."""
        for left in reversed(range(_TRIES)):
            resize = self._planned(where, pod, limit)
            if resize.is_asked_for:
                break
            try:
                after = await self._api.resize(where, pod, resize.body())
            except ConflictError:
                if not left:
                    raise
                pod = await self._again(where, pod)
            else:
                self._requests.note(str(where), resize)
                return replace(resize, pod=after)
        return resize

    async def _again(self, where: PodTarget, pod: Pod) -> Pod:
        """Return the pod as it is now.

        Raises:
            TemporaryError: it is gone, or another one has its name.
        """
        for one in await self._api.pods(replace(where, pod=pod.metadata.name, selector="")):
            if one.metadata.uid == pod.metadata.uid:
                return one
        raise TemporaryError(f"kubernetes {where}: pod {pod.metadata.name} was replaced meanwhile")

    async def _follow(self, where: PodTarget, resizes: list[Resize]) -> list[MicrooptError]:
        """Wait until the kubelets have put `resizes` in force, and return what has kept them from it.

        A pod that goes away meanwhile is waited for no more.
        """
        waiting = {resize.pod.metadata.uid: resize for resize in resizes}
        errors: list[MicrooptError] = []
        give_up_s = time.monotonic() + self._settle_s
        looks = 0
        while waiting:
            last_look = time.monotonic() >= give_up_s
            now = {pod.metadata.uid: pod for pod in await self._api.pods(where)}
            for uid, resize in list(waiting.items()):
                try:
                    with _about(where):
                        if uid in now and not is_done(resize, now[uid], last_look=last_look):
                            continue
                except MicrooptError as error:
                    errors.append(error)
                del waiting[uid]
            if waiting:
                await asyncio.sleep(_LOOK_EVERY_S[min(looks, len(_LOOK_EVERY_S) - 1)])
                looks += 1
        return errors


@asynccontextmanager
async def opened(settings: ActuatorSettings, _: Context) -> AsyncIterator[Driver]:
    """Open the driver with its settings.

    Raises:
        ConfigError: there are no credentials that can be used.
    """
    own = settings.kubernetes
    api = KubernetesApi(lambda: connected(own.kubeconfig, own.context), own.timeout_s)
    await api.open()
    try:
        yield KubernetesDriver(api, own.settle_s, allow_restart=own.allow_restart)
    finally:
        await api.close()


@dataclass(frozen=True, slots=True)
class _Lowered:
    wanted: int
    ours: int


class _Requests:
    """The CPU requests that this process took down with a limit, and what they were before.

    Otherwise a pod's share of a busy node would go down with each low limit and never come up again. What an
    earlier process has taken down stays there.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[str, _Lowered]] = {}

    def wanted(self, target: str, pod: Pod, container: str) -> int | None:
        """Return the request that a container had; `None` is the one that it has."""
        lowered = self._of.get(target, {}).get(pod.metadata.uid)
        if lowered is None or millicores(pod.container(container).resources.requests) != lowered.ours:
            return None  # never ours, or set by somebody else since
        return lowered.wanted

    def note(self, target: str, resize: Resize) -> None:
        """Remember what a resize does to the request."""
        self._of.setdefault(target, {})[resize.pod.metadata.uid] = _Lowered(resize.wanted, resize.request)

    def keep_only(self, target: str, uids: set[str]) -> None:
        """Forget the pods that are gone."""
        self._of[target] = {uid: one for uid, one in self._of.get(target, {}).items() if uid in uids}


@contextmanager
def _about(where: PodTarget) -> Iterator[None]:
    """Let errors say what they are about."""
    try:
        yield
    except PermanentError as error:
        raise PermanentError(f"kubernetes {where}: {error}") from error
    except TemporaryError as error:
        raise TemporaryError(f"kubernetes {where}: {error}") from error


def _limit(where: PodTarget, value: float) -> int:
    with _about(where):
        return checked_limit(value)


def _worst(errors: list[MicrooptError]) -> MicrooptError:
    """Return one that says all; it is permanent if any is."""
    kind = PermanentError if any(isinstance(error, PermanentError) for error in errors) else TemporaryError
    return kind("; ".join(dict.fromkeys(str(error) for error in errors)))
