"""What is told of a round beside its allocations: what was asked and answered, and what went otherwise."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from microopt.messages import Answer, Asked, Event, Problem, SliceCheck
from microopt.specs import Route
from microopt_optimizer.router.asking import Reply
from microopt_optimizer.router.guard import Verdict

MAX_REASON_CHARS: Final = 2_000
MANY: Final = 10
"""Events of as many slices for one reason are one event."""


@dataclass
class Told:
    """Gathers answers and events of one attempt at a round; `epoch` is that of the allocations, 0 for none."""

    problem: Problem
    problem_id: str
    route: Route
    epoch: int = 0
    answers: list[Answer] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def answered(self, reply: Reply, role: str, verdict: Verdict, checks: Mapping[str, SliceCheck]) -> None:
        """Note an optimizer's answer, or that there was none."""
        self.answers.append(
            Answer(
                pool=self.problem.pool,
                interval=self.problem.interval,
                problem=self.problem_id,
                optimizer=reply.optimizer,
                role=role,  # type: ignore[arg-type]  # one of the literals, by who calls
                at=datetime.now(UTC),
                solution=reply.solution,
                error=reply.error[:MAX_REASON_CHARS],
                latency_s=reply.latency_s,
                refused={name: why[:MAX_REASON_CHARS] for name, why in verdict.refused.items()},
                checks=list(checks.values()),
            )
        )

    def event(self, kind: str, slice_: str | None, reason: str, optimizer: str = "") -> None:
        """Note something that an operator wants to know of."""
        self.events.append(
            Event(
                pool=self.problem.pool,
                kind=kind,  # type: ignore[arg-type]
                at=datetime.now(UTC),
                slice=slice_,
                optimizer=optimizer,
                reason=reason[:MAX_REASON_CHARS],
                interval=self.problem.interval,
            )
        )

    @property
    def asked(self) -> Asked | None:
        """Return what was asked, if anything came of it."""
        if not self.epoch and not any(answer.solution for answer in self.answers):
            return None
        return Asked(
            problem=self.problem,
            active=self.route.active,
            at=datetime.now(UTC),
            others=tuple(a.optimizer for a in self.answers if a.optimizer != self.route.active),
            shadows=self.route.shadows,
            epoch=self.epoch,
        )

    def leave_out(self, said: set[tuple[str, ...]]) -> None:
        """Leave out what was `said` of the round before, and add the rest to it: it is tried again and again."""
        self.events = [event for event in gathered(self.events) if _is_new(said, _key(event))]
        self.answers = [
            answer
            for answer in self.answers
            if answer.solution is not None or _is_new(said, ("answer", answer.optimizer, answer.error))
        ]


def gathered(events: list[Event]) -> list[Event]:
    """Return the events, with one in place of those of many slices for the same reason."""
    alike: defaultdict[tuple[str, ...], list[Event]] = defaultdict(list)
    for event in events:
        alike[event.kind, event.optimizer, event.reason].append(event)
    found: list[Event] = []
    for group in alike.values():
        if len(group) < MANY:
            found += group
            continue
        names = ", ".join(str(event.slice) for event in group[:3])
        reason = f"{len(group)} slices ({names}, …): {group[0].reason}"
        found.append(replace(group[0], slice=None, reason=reason[:MAX_REASON_CHARS]))
    return found


def _key(event: Event) -> tuple[str, ...]:
    return (event.kind, event.slice or "", event.optimizer, event.reason)


def _is_new(said: set[tuple[str, ...]], key: tuple[str, ...]) -> bool:
    if key in said:
        return False
    said.add(key)
    return True
