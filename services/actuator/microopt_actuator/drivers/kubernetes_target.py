"""What a target of the driver `kubernetes` names: a container of one pod, or of all pods with certain labels."""

import re
from dataclasses import dataclass
from typing import Final

from microopt.errors import PermanentError

_POD: Final = "pod/"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_MAX_CHARS: Final = 1_000
_HOW: Final = (
    "write <namespace>/pod/<name>/<container> as core/pod/upf-0/upf, or <namespace>/<label>=<value>,…/<container> "
    "as core/app=upf,slice=embb/upf"
)


@dataclass(frozen=True, slots=True)
class PodTarget:
    """A container by its name, in the pod of a name or in each that a label selector matches: one of the two."""

    namespace: str
    container: str
    pod: str = ""
    selector: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.selector or _POD + self.pod}/{self.container}"


def parse_target(text: str) -> PodTarget:
    """Return what `text` names.

    Between namespace and container, what has a `=` is a label selector; its keys may have a prefix with a `/`.

    Raises:
        PermanentError: it is not in the driver's notation.
    """
    if len(text) > _MAX_CHARS:
        raise PermanentError(f"kubernetes target {text[:80]!r}…: longer than {_MAX_CHARS} characters; {_HOW}")
    namespace, _, rest = text.partition("/")
    which, _, container = rest.rpartition("/")
    if not _LABEL.fullmatch(namespace):
        raise _wrong(text, f"{namespace!r} is no namespace's name")
    if not _LABEL.fullmatch(container):
        raise _wrong(text, f"{container!r} is no container's name")
    if "=" in which:
        for requirement in which.split(","):
            _check_requirement(text, requirement)
        return PodTarget(namespace, container, selector=which)
    name = which.removeprefix(_POD)
    if name == which or not _SUBDOMAIN.fullmatch(name):
        raise _wrong(text, f"{which!r} is neither pod/<name> nor a label selector")
    return PodTarget(namespace, container, pod=name)


def _check_requirement(text: str, requirement: str) -> None:
    key, _, value = requirement.partition("=")
    prefix, slash, name = key.rpartition("/")
    if (slash and not _SUBDOMAIN.fullmatch(prefix)) or not _VALUE.fullmatch(name) or not _VALUE.fullmatch(value):
        raise _wrong(text, f"{requirement!r} is no <label>=<value>")


def _wrong(text: str, why: str) -> PermanentError:
    return PermanentError(f"kubernetes target {text!r}: {why}; {_HOW}")
