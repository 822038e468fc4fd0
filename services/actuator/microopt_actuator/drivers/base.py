"""What the reconciler asks of everything that can hold an allocation: plan, apply, read back (ADR 11)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Write:
    """What it takes to put `value` in force at `target`, before anything is written.

    `holds` is what the target will show then, in its own rounding, and `tolerance` how far from it a faithful
    reading may be. `steps` say what is written, one line each, for people; there are none where all is as it
    should be. `thing` tells what stands behind the target now, such as a pod's UID, where that can be another one
    later: what a new one has was changed by nobody.
    """

    target: str
    value: float
    holds: float
    tolerance: float
    steps: tuple[str, ...]
    thing: str = ""

    def is_held_by(self, observed: float | None) -> bool:
        """Return whether a reading shows this value in force."""
        return observed is not None and abs(observed - self.holds) <= self.tolerance


class Driver(Protocol):
    """One way to put a resource's value in force.

    A target names one thing in the driver's own notation, such as a cgroup path. Whatever happens while a value is
    applied, the target has the old value or the new one.
    """

    @property
    def name(self) -> str:
        """Return the word that selects this driver in the configuration and names it in reports."""
        ...

    @property
    def unit(self) -> str | None:
        """Return the unit of values, as pools name it (`millicores`, `Mbit/s`); `None` takes any."""
        ...

    async def plan(self, target: str, value: float) -> Write:
        """Return what putting `value` in force would write; nothing is written.

        Raises:
            TemporaryError: the target is not there now.
            PermanentError: the target can never hold this value; the text names the remedy.
        """
        ...

    async def apply(self, write: Write) -> None:
        """Put what was planned in force; a value that is in force already changes nothing.

        Raises:
            TemporaryError: the same may succeed later.
            PermanentError: the target refuses; the text names the remedy.
        """
        ...

    async def read(self, target: str) -> float | None:
        """Return the value in force now; `None` is unlimited or unknown.

        It is read from the kernel, database or API that enforces it, never from what was written last.

        Raises:
            TemporaryError: the target is not there now.
            PermanentError: the target can never be read; the text names the remedy.
        """
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """Whether a target can be written, as far as that can be seen without writing.

    `writable` is `None` where only a write would show; `why` says what speaks against it, with the remedy, or what
    would have to be known.
    """

    writable: bool | None
    why: str = ""


WRITABLE = Access(writable=True)


@runtime_checkable
class Probe(Protocol):
    """What a driver may have beside the functions of `Driver`, where it can tell more than a plan does."""

    async def access(self, target: str) -> Access:
        """Return whether the target, which can be read, can be written too; nothing is written.

        Raises:
            TemporaryError: the target is not there now.
            PermanentError: the target can never be read; the text names the remedy.
        """
        ...


@runtime_checkable
class Absence(Protocol):
    """What a driver may have beside the functions of `Driver`, where it can tell what is not there."""

    def absent(self, target: str) -> str:
        """Return another target in the same notation, which nobody has."""
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """What a driver has made for a target: `lasting` outlives a change, which leaves as much of `changing`."""

    lasting: tuple[str, ...]
    changing: tuple[str, ...]


@runtime_checkable
class Maker(Protocol):
    """What a driver may have beside the functions of `Driver`, where it makes things to put a value in force."""

    async def made(self, target: str) -> Made:
        """Return what it has made for the target and is there now, also what it would have to remove.

        Raises:
            TemporaryError: the target is not there now.
            PermanentError: the target can never be read; the text names the remedy.
        """
        ...
