"""What the reconciler asks of everything that can hold an allocation."""

from typing import Protocol


class Driver(Protocol):
    """One way to put a resource's value in force: written, then read back from the thing itself.

    A target names one thing in the driver's own notation, such as a cgroup path; values are in the resource's
    unit (millicores, Mbit/s).
    """

    @property
    def name(self) -> str:
        """Return the word that selects this driver in the configuration and names it in reports."""
        ...

    async def read(self, target: str) -> float | None:
        """Return the value in force now, in the resource's unit; `None` is unlimited or unknown.

        It is read from the kernel, database or API that enforces it, never from what was written last.

        Raises:
            TemporaryError: the target is not there now.
            PermanentError: the target can never be read; the text names the remedy.
        """
        ...

    async def write(self, target: str, value: float) -> None:
        """Put `value`, in the resource's unit, in force; a value that is in force already changes nothing.

        Raises:
            TemporaryError: the same write may succeed later.
            PermanentError: the target cannot hold this value; the text names the remedy.
        """
        ...

    def tolerance(self, value: float) -> float:
        """Return how far from `value`, in its unit, a faithful reading may be: the target's own rounding."""
        ...
