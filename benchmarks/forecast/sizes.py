"""How much is measured."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Sizes:
    """`hours` are tested, their last half for the shorter MASE; `slices` and `days` are of the scale part."""

    hours: int
    horizons: tuple[int, ...]
    slices: int
    days: int
    measured: bool
    """Whether traffic is measured data, or made up."""

    @property
    def last_hours(self) -> int:
        """Return the length of the shorter period."""
        return self.hours // 2


WHOLE: Final = Sizes(hours=336, horizons=(1, 24), slices=1_000, days=28, measured=True)
QUICK: Final = Sizes(hours=12, horizons=(1, 2), slices=6, days=15, measured=False)
