"""What a target of the driver `tc` names: an HTB class of an interface, in this network namespace or another."""

import re
from dataclasses import dataclass
from typing import Final

from microopt.errors import PermanentError

_NETNS: Final = "netns:"
_NAME = re.compile(r"[^/\s\x00]{1,255}")
_INTERFACE = re.compile(r"[^/:\s\x00]{1,15}")
_CLASS = re.compile(r"([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,4})")
_HOW: Final = "write <interface>/<class id> as eth0/1:10, or netns:<name>/<interface>/<class id>"


@dataclass(frozen=True, slots=True)
class TcTarget:
    """A class by its handle, major and minor number in 16 bits each; no `netns` is that of this process."""

    netns: str | None
    interface: str
    handle: int

    def __str__(self) -> str:
        where = self.interface if self.netns is None else f"{_NETNS}{self.netns}/{self.interface}"
        return f"{where}/{class_id(self.handle)}"


def class_id(handle: int) -> str:
    """Return a handle as tc writes it, in hexadecimal: `1:10`."""
    return f"{handle >> 16:x}:{handle & 0xFFFF:x}"


def parse_target(text: str) -> TcTarget:
    """Return what `text` names.

    Raises:
        PermanentError: it is not in the driver's notation.
    """
    netns, rest = None, text
    if text.startswith(_NETNS):
        netns, _, rest = text.removeprefix(_NETNS).partition("/")
        if not _NAME.fullmatch(netns) or netns in (".", ".."):
            raise PermanentError(f"tc target {text!r}: {netns!r} is no network namespace's name; {_HOW}")
    interface, _, written = rest.partition("/")
    if not _INTERFACE.fullmatch(interface) or interface in (".", ".."):
        raise PermanentError(f"tc target {text!r}: {interface!r} is no interface's name; {_HOW}")
    return TcTarget(netns, interface, _handle(text, written))


def _handle(text: str, written: str) -> int:
    if not (numbers := _CLASS.fullmatch(written)):
        raise PermanentError(f"tc target {text!r}: {written!r} is no class id; {_HOW}")
    major, minor = (int(number, 16) for number in numbers.groups())
    if not major or not minor:
        raise PermanentError(f"tc target {text!r}: {written} is no class, both numbers must be above 0; {_HOW}")
    return major << 16 | minor
