"""The columns of an exported data set."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from microopt.errors import ConfigError
from microopt.ids import unix_ms
from microopt.messages import Telemetry
from microopt_collector.dataset.files import Cell
from microopt_collector.dataset.rows import Row

FIRST: Final = ("time", "slot_s", "users", "qos")
LAST: Final = ("quality", "transient")
MEASURED: Final = ("usage", "pressure", "throttled")
"""Of a resource, each a share or a value; the columns are called `usage.<resource>` and so on."""


class Columns:
    """Which resources have columns: those of which any slot says something."""

    def __init__(self) -> None:
        self._allocated: set[str] = set()
        self._measured: set[tuple[int, str]] = set()

    def note(self, slot: Telemetry) -> None:
        """Make sure that everything that `slot` says has a column."""
        self._allocated.update(slot.allocation)
        for place, kind in enumerate(MEASURED):
            self._measured.update((place, name) for name in getattr(slot, kind))

    @property
    def resources(self) -> list[str]:
        """Return the resources that were allocated.

        Raises:
            ConfigError: one is called like another column.
        """
        for name in self._allocated.intersection((*FIRST, *LAST)):
            raise ConfigError(f"resource {name!r} is called like a column of the data set; rename the resource")
        return sorted(self._allocated)

    @property
    def header(self) -> list[str]:
        """Return the names of the columns."""
        measured = [f"{MEASURED[place]}.{name}" for place, name in sorted(self._measured)]
        return [*FIRST, *self.resources, *measured, *LAST]

    def cells(self) -> Callable[[Row], list[Cell]]:
        """Return what gives the values of a row in the order of the header; what is unknown is None."""
        resources = self.resources
        measured = [(MEASURED[place], name) for place, name in sorted(self._measured)]

        def of(row: Row) -> list[Cell]:
            slot = row.telemetry
            return [
                datetime.fromtimestamp(unix_ms(slot.time) / 1000, UTC),
                slot.slot_s,
                slot.users,
                slot.qos,
                *(slot.allocation.get(name) for name in resources),
                *(getattr(slot, kind).get(name) for kind, name in measured),
                slot.quality,
                row.transient,
            ]

        return of
