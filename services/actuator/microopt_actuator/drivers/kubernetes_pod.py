"""Pods as the Kubernetes API gives them, as far as their CPU is concerned, and what can be read off them."""

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Final, Literal

from msgspec import Struct

from microopt.errors import PermanentError

QosClass = Literal["BestEffort", "Burstable", "Guaranteed"]

_NUMBER: Final = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_SHAPE: Final = re.compile(rf"({_NUMBER})(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?[0-9]{{1,2}}))?")
_MAX_CHARS: Final = 40
_BINARY: Final[dict[str, int]] = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL: Final[dict[str, Fraction]] = {
    letter: Fraction(f"1e{3 * power}") for power, letter in enumerate("num?kMGTPE", -3)
}


class Resources(Struct, frozen=True):
    """Quantities by resource; `cpu` counts in cores."""

    limits: dict[str, str] = {}
    requests: dict[str, str] = {}


class ResizePolicy(Struct, frozen=True, rename="camel"):
    """What becomes of a container when a resource of it is resized."""

    resource_name: str
    restart_policy: str


class Container(Struct, frozen=True, rename="camel"):
    """What a container shall have."""

    name: str
    resources: Resources = Resources()
    resize_policy: list[ResizePolicy] = []


class PodSpec(Struct, frozen=True, rename="camel"):
    """What a pod shall have; `resources` are those that all of its containers share."""

    containers: list[Container]
    init_containers: list[Container] = []
    resources: Resources = Resources()


class State(Struct, frozen=True):
    """A container's state; one that runs has `running`."""

    running: dict[str, object] | None = None


class ContainerStatus(Struct, frozen=True, rename="camel"):
    """What a container has, in the words of its kubelet; before Kubernetes 1.33 it says nothing of `resources`."""

    name: str
    state: State = State()
    resources: Resources | None = None


class Condition(Struct, frozen=True, rename="camel"):
    """A condition of a pod; no `observed_generation` is one of unknown age."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


class PodStatus(Struct, frozen=True, rename="camel"):
    """What a pod has, in the words of its kubelet."""

    container_statuses: list[ContainerStatus] = []
    conditions: list[Condition] = []


class Metadata(Struct, frozen=True, rename="camel"):
    """What identifies a pod, and which of its versions this is."""

    name: str
    uid: str
    resource_version: str
    generation: int = 0
    deletion_timestamp: str | None = None


class Pod(Struct, frozen=True):
    """A pod."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    def runs(self, container: str) -> bool:
        """Return whether a container runs, and is not about to end with its pod.

        Readiness is not asked for: a container may be unready because it has too little CPU.
        """
        status = self.status_of(container)
        return self.metadata.deletion_timestamp is None and status is not None and status.state.running is not None

    def status_of(self, container: str) -> ContainerStatus | None:
        """Return what the kubelet says of a container."""
        return next((one for one in self.status.container_statuses if one.name == container), None)

    def container(self, name: str) -> Container:
        """Return a container by its name.

        Raises:
            PermanentError: the pod has none of this name.
        """
        for one in self.spec.containers:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self.spec.containers)
        raise PermanentError(f"pod {self.metadata.name} has no container {name!r}, only {names}; name one of them")


class PodList(Struct, frozen=True):
    """Some pods; `metadata` has `continue` where there are more."""

    items: list[Pod]
    metadata: dict[str, object] = {}


def quantity(text: str) -> Fraction:
    """Return what a quantity such as `250m`, `1.5` or `2Gi` stands for.

    Raises:
        PermanentError: it is no quantity.
    """
    parts = _SHAPE.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if parts is None:
        raise PermanentError(f"{text[:_MAX_CHARS]!r} is no quantity as Kubernetes writes it, such as 250m or 1.5")
    number, binary, decimal, exponent = parts.groups()
    if binary:
        return Fraction(number) * _BINARY[binary]
    if decimal:
        return Fraction(number) * _DECIMAL[decimal]
    return Fraction(number) * Fraction(f"1e{exponent or 0}")


def millicores(quantities: dict[str, str]) -> Fraction | None:
    """Return the CPU among `quantities`, None where there is none.

    Raises:
        PermanentError: it is no quantity.
    """
    return quantity(quantities["cpu"]) * 1000 if "cpu" in quantities else None


def qos_class(containers: Iterable[Container]) -> QosClass:
    """Return the QoS class of a pod with these containers, init containers among them, by the rules of the API.

    Guaranteed is a pod whose containers all have limits of CPU and memory and request as much.
    """
    asked, limited, anything = True, True, False
    for one in containers:
        for name in ("cpu", "memory"):
            request = quantity(one.resources.requests.get(name, "0"))
            limit = quantity(one.resources.limits.get(name, "0"))
            limited = limited and limit > 0
            asked = asked and request == limit  # a request is never above its limit
            anything = anything or request > 0 or limit > 0
    if not anything:
        return "BestEffort"
    return "Guaranteed" if limited and asked else "Burstable"
