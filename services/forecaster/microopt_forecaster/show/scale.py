"""A common scale of users for all rows: from numbers to cells of a line."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_FROM_ZERO = 0.5
"""The scale begins at 0 unless the least is above this share of the most."""
_TICK_CELLS = 6
_MOST_TICKS = 6


@dataclass(frozen=True)
class Scale:
    """`cells` cells from `low` to `high` users, with a tick every `step`."""

    low: float
    high: float
    step: float
    cells: int

    def cell(self, users: float) -> int:
        """Return the cell of `users`."""
        share = (users - self.low) / (self.high - self.low)
        return min(self.cells - 1, max(0, round(share * (self.cells - 1))))

    @property
    def ticks(self) -> dict[int, str]:
        """Return the label of each cell that has a tick."""
        count = math.floor((self.high - self.low) / self.step + 1e-9)
        users = [self.low + n * self.step for n in range(count + 1)]
        places = max(0, -math.floor(math.log10(self.step)))
        return {self.cell(u): f"{u:.{places}f}" for u in users}


def scale(users: Iterable[float], cells: int) -> Scale:
    """Return the scale that holds all of `users`."""
    all_users = list(users) or [0.0]
    least, most = min(all_users), max(all_users)
    low = 0.0 if least <= _FROM_ZERO * most else least
    step = _nice((most - low or most or 1.0) / max(1, min(_MOST_TICKS, cells // _TICK_CELLS)))
    low = math.floor(low / step) * step
    return Scale(low, most if most > low else low + step, step, cells)


def _nice(step: float) -> float:
    """Return the least of 1, 2, 5, 10 … that is not less than `step`."""
    unit = 10.0 ** math.floor(math.log10(step))
    return next(n * unit for n in (1.0, 2.0, 5.0, 10.0) if n * unit >= step * (1.0 - 1e-9))
