"""What is kept of a shadow's answer, and what of it the slice models are asked about."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from microopt.messages import Answer, Check, Problem, SliceCheck, Solution
from microopt_optimizer.router import guard, judging

SLICES_A_CHECK: Final = 200
MOST_CHARS: Final = 2_000
BESIDE_BYTES: Final = 4_096
"""Room for headers and protocol beside a message."""


def is_stale(problem: Problem, now: datetime, stale_after_s: float) -> bool:
    """Return whether a problem's interval has been over for longer than `stale_after_s`."""
    return (now - problem.interval.end).total_seconds() > stale_after_s


def shadow_answer(
    problem: Problem, optimizer: str, solution: Solution | None, error: str, latency_s: float, at: datetime
) -> Answer:
    """Return an answer, or that there was none, as it is kept."""
    return Answer(
        pool=problem.pool,
        interval=problem.interval,
        problem=problem.id,
        optimizer=optimizer,
        role="shadow",
        at=at,
        solution=solution,
        error=error[:MOST_CHARS],
        latency_s=latency_s,
    )


def judged(answer: Answer, problem: Problem, checks: Sequence[SliceCheck]) -> Answer:
    """Return an answer with what the guard would refuse of it, and the slice models too, as far as they tell."""
    if answer.solution is None:
        return answer
    verdict = guard.check(problem, answer.solution)
    by_slice = {one.slice: one for one in checks}
    refused = judging.judged(problem, verdict, by_slice, "if-possible", "say").refused
    return replace(answer, checks=list(checks), refused={name: why[:MOST_CHARS] for name, why in refused.items()})


def checks(problem: Problem, solution: Solution) -> Iterator[Check]:
    """Yield what to ask the slice models, at most `SLICES_A_CHECK` slices at once.

    Of slices that were asked about, with a value for each resource and no other.
    """
    answers = {one.slice: one.allocation for one in solution.slices}
    known = [one for one in problem.slices if set(answers.get(one.slice, ())) == set(one.bounds)]
    for place in range(0, len(known), SLICES_A_CHECK):
        part = known[place : place + SLICES_A_CHECK]
        yield Check(problem=replace(problem, slices=part), allocations={s.slice: answers[s.slice] for s in part})


def usable(check: Check, found: list[SliceCheck]) -> list[SliceCheck]:
    """Return the parts of a check's answer that were asked for, each once."""
    return list({one.slice: one for one in found if one.slice in check.allocations}.values())


def fitting(answer: Answer, most_bytes: int) -> Answer:
    """Return an answer that the bus takes: without checks if need be, and at last without the solution."""
    if _fits(answer, most_bytes):
        return answer
    if _fits(bare := replace(answer, checks=[]), most_bytes):
        return bare
    size = len(msgspec.json.encode(answer))
    error = f"its answer is {size} bytes with the guard's word, at most {most_bytes} are kept"
    short = replace(answer, checks=[], solution=None, error=error)
    return short if _fits(short, most_bytes) else replace(short, refused={})


def _fits(answer: Answer, most_bytes: int) -> bool:
    return len(msgspec.json.encode(answer)) + BESIDE_BYTES <= most_bytes
