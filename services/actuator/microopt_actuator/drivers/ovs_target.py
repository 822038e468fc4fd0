"""What a target of the driver `ovs` names: a queue by its port and id, or by what its row is tagged with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from microopt.errors import PermanentError

MAX_QUEUE: Final = 61_439
"""The highest id that Open vSwitch takes (queues 0xf000 and above are no Linux class ids)."""
_MAX_CHARS: Final = 1_000
_PORT = re.compile(r"[^/=,\s\x00]{1,255}")
_NUMBER = re.compile(r"[0-9]{1,5}")
_TAG = re.compile(r"([^=,\s]+)=([^=,]+)")
_HOW: Final = (
    "write <port>/<queue id> as eth1/123, or what the queue's external_ids hold, <key>=<value>,…, as "
    "slice=1-000001"
)


@dataclass(frozen=True, slots=True)
class OvsTarget:
    """A queue of a port, or the one queue whose external_ids include `tags`: one of the two."""

    port: str = ""
    queue: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.tags.items()) or f"{self.port}/{self.queue}"


def parse_target(text: str) -> OvsTarget:
    """Return what `text` names; what has a `=` is tags.

    Raises:
        PermanentError: it is not in the driver's notation.
    """
    if len(text) > _MAX_CHARS:
        raise PermanentError(f"ovs target {text[:80]!r}…: longer than {_MAX_CHARS} characters; {_HOW}")
    if "=" in text:
        return OvsTarget(tags=dict(_tag(text, part) for part in text.split(",")))
    port, _, number = text.rpartition("/")
    if not _PORT.fullmatch(port):
        raise PermanentError(f"ovs target {text!r}: {port!r} is no port's name; {_HOW}")
    if not _NUMBER.fullmatch(number) or int(number) > MAX_QUEUE:
        raise PermanentError(f"ovs target {text!r}: {number!r} is no queue id from 0 to {MAX_QUEUE}; {_HOW}")
    return OvsTarget(port, int(number))


def _tag(text: str, part: str) -> tuple[str, str]:
    if not (found := _TAG.fullmatch(part)):
        raise PermanentError(f"ovs target {text!r}: {part!r} is no <key>=<value>; {_HOW}")
    key, value = found.groups()
    return key, value
