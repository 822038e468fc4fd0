"""Whether an allocation that was verified is also seen in telemetry."""

from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["effective", "ineffective"]

SLACK: Final = 0.05
"""Of the limit: what shaping, bursts and measuring leave."""
PRESSED: Final = 0.95
"""A slice that uses so much of what it had would take more."""
CONTRADICTIONS: Final = 3
"""Slots in a row that must speak against a limit, before it is said not to work."""


@dataclass(slots=True)
class Effect:
    """What the slots after a value was verified say about it.

    `before` is what was in force until then, None where that is not known.
    """

    value: float
    before: float | None
    against: int = 0
    verdict: Verdict | None = None

    def see(self, usage: float) -> bool:
        """Take the resource's use in one whole slot, in its unit, and return whether the verdict changed.

        Use within the limit is the limit at work, unless the slice still strains at one that was lower; use beyond
        it, or at the old limit, is a limit that was accepted and changed nothing.
        """
        if self._speaks_against(usage):
            self.against += 1
            verdict: Verdict | None = "ineffective" if self.against >= CONTRADICTIONS else self.verdict
        else:
            self.against, verdict = 0, "effective"
        changed, self.verdict = verdict != self.verdict, verdict
        return changed

    def _speaks_against(self, usage: float) -> bool:
        if usage > self.value * (1.0 + SLACK):
            return True
        old = self.before
        grew = old is not None and old * (1.0 + SLACK) < self.value * PRESSED
        return grew and old is not None and PRESSED * old <= usage <= (1.0 + SLACK) * old
