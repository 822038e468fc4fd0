"""How a slice's time is cut: slots into steps, steps into intervals, intervals into seasons."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

MAX_STEPS: Final = 12
"""Steps of an interval; more of them tell the last minutes more freshly, and cost memory and features."""


@dataclass(frozen=True)
class Grid:
    """Lengths in seconds; slot, step and interval n begin n times their length after the Unix epoch.

    An interval is cut into as many equal steps of whole slots as there can be, at most `MAX_STEPS`; one that is no
    whole number of slots is one step.
    """

    slot_s: float
    interval_s: float
    season_s: float

    @cached_property
    def slot_us(self) -> int:
        """Return the length of a slot; whole microseconds, as n · 0.1 s must not fall into slot n − 1."""
        return max(1, round(self.slot_s * 1e6))

    @cached_property
    def step_us(self) -> int:
        """Return the length of a step in microseconds."""
        return max(1, round(self.interval_s * 1e6)) // self.steps

    @cached_property
    def steps(self) -> int:
        """Return the number of steps in an interval."""
        slots, rest = divmod(round(self.interval_s * 1e6), self.slot_us)
        if rest or not slots:
            return 1
        return next(n for n in range(MAX_STEPS, 0, -1) if slots % n == 0)

    @cached_property
    def step_slots(self) -> int:
        """Return the number of slots that begin in a step, at most."""
        return -(-self.step_us // self.slot_us)

    @cached_property
    def season(self) -> int:
        """Return the number of intervals in a season, at least one."""
        return max(1, round(self.season_s / self.interval_s))

    def step(self, time_s: float) -> int:
        """Return the step that holds `time_s`, in seconds since the Unix epoch."""
        return round(time_s * 1e6) // self.step_us

    def place(self, time_s: float) -> tuple[int, int]:
        """Return the step that holds `time_s`, and which of the step's slots does."""
        slot_start_us = round(time_s * 1e6) // self.slot_us * self.slot_us
        step, offset_us = divmod(slot_start_us, self.step_us)
        return step, offset_us // self.slot_us

    def interval(self, time_s: float) -> int:
        """Return the interval that holds `time_s`."""
        return self.step(time_s) // self.steps

    def steps_in(self, duration_s: float) -> int:
        """Return the least number of steps that cover `duration_s`."""
        return -(-round(duration_s * 1e6) // self.step_us)
