"""What was found of a driver, and how an operator reads it."""

from collections.abc import Iterator

from msgspec import Struct


class Outcome(Struct, frozen=True, kw_only=True):
    """One check; `said` is what was seen, or what is wrong."""

    check: str
    ok: bool
    said: str
    took_s: float
    steps: tuple[str, ...] = ()
    """What the driver says that it would write."""


class Report(Struct, frozen=True, kw_only=True):
    """What `microopt actuator conformance` found."""

    driver: str
    target: str
    unit: str
    before: float | None
    """What was in force at first; `None` is no limit."""
    outcomes: list[Outcome]

    @property
    def ok(self) -> bool:
        """Return whether everything was tried, and found as it should be."""
        return bool(self.outcomes) and all(outcome.ok for outcome in self.outcomes)


def lines(outcome: Outcome) -> Iterator[str]:
    """Yield one check as text."""
    yield f"{'✓' if outcome.ok else '✗'} {outcome.took_s:8.3f} s  {outcome.check}: {outcome.said}"
    for step in outcome.steps:
        yield f"              {step}"


def summary(report: Report) -> str:
    """Return the last line."""
    failed = [outcome.check for outcome in report.outcomes if not outcome.ok]
    if failed:
        return f"{len(failed)} of {len(report.outcomes)} checks failed: {', '.join(failed)}"
    return f"{len(report.outcomes)} checks passed: {report.driver} keeps its contract at {report.target}"
