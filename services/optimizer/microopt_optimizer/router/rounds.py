"""Gathering the forecasts of one interval of a pool."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from microopt.messages import Allocation, Forecast, Interval
from microopt.specs import SliceSpec
from microopt_optimizer.router.decision import Decision

INTO_SHARE: Final = 0.05
"""How far into the interval an answer that was asked for before is waited for: less than the last one's grace."""
LEFT_SHARE: Final = 0.5


@dataclass
class Round:
    """The forecasts of one pool for one interval, as they come in."""

    pool: str
    interval: Interval
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    recommended: set[str] = field(default_factory=set)
    """Slices for which only a recommendation was asked, and was given."""
    stood_in: set[str] = field(default_factory=set)
    """Slices for which the last allocation or Peak-alloc stands in, as long as no optimizer answers."""

    def add(self, forecast: Forecast) -> None:
        """Take a forecast; a later one for the same slice replaces the former."""
        self.forecasts[forecast.slice] = forecast

    said: set[tuple[str, ...]] = field(default_factory=set)
    """What was told of the round: its attempts do not say it again."""

    @property
    def has_begun(self) -> bool:
        """Return whether the interval has begun."""
        return datetime.now(UTC) >= self.interval.start

    @property
    def left_s(self) -> float:
        """Return how much of the interval is left."""
        return (self.interval.end - datetime.now(UTC)).total_seconds()

    def may_wait_s(self, longest_s: float) -> float:
        """Return how long an answer may be waited for, so that others can stand in at the interval's start.

        After the start it is a half of what is left at most.
        """
        until_s = (self.interval.start - datetime.now(UTC)).total_seconds()
        if until_s > 0.0:
            return min(longest_s, until_s + INTO_SHARE * self.interval.duration_s)
        return min(longest_s, LEFT_SHARE * self.left_s)

    def note(self, decisions: Mapping[str, Decision], recommended: set[str]) -> None:
        """Take note of what was decided, so that nothing stands in, or is recommended, twice."""
        self.recommended |= recommended
        self.stood_in |= {name for name, decision in decisions.items() if decision.fallback in ("last", "peak")}

    def is_complete(self, slices: Mapping[str, SliceSpec]) -> bool:
        """Return whether every slice of the pool with this interval's length has its forecast."""
        return all(
            name in self.forecasts
            for name, spec in slices.items()
            if spec.pool == self.pool and spec.interval_s == self.interval.duration_s
        )

    def pending(
        self, slices: Mapping[str, SliceSpec], last: Mapping[str, Allocation | None]
    ) -> dict[str, Forecast]:
        """Return the forecasts whose interval was not allocated yet.

        This is what makes a restart harmless, and an answer that comes late.
        """
        return {
            name: forecast
            for name, forecast in self.forecasts.items()
            if name in slices and name not in self.recommended and not is_answered(last.get(name), self.interval)
        }


def is_answered(last: Allocation | None, interval: Interval) -> bool:
    """Return whether the last allocation is an optimizer's for `interval`, or for one that follows it.

    One that ends earlier is of a former, shorter interval, and one that begins after `interval` has ended was made
    by a clock that was ahead: neither stands in the way.
    """
    if last is None or last.fallback in ("last", "peak"):
        return False
    return interval.start <= last.interval.start <= interval.end <= last.interval.end
