"""A replay as lines of text."""

from collections.abc import Iterator
from typing import Final

from microopt_optimizer.report.replayed import (
    Difference,
    Replay,
    Replayed,
    counted,
    is_broken,
    relative,
    was_cut_short,
)
from microopt_optimizer.report.words import UNKNOWN, moment, number, plural

MOST_SHOWN: Final = 20


def replay_lines(replay: Replay) -> Iterator[str]:
    """Yield a replay's lines."""
    count = plural(len(replay.replayed), "recorded problem")
    yield f"pool {replay.pool}: {count} answered again by {replay.optimizer}"
    for one in replay.replayed:
        yield from _one(one, replay.optimizer)
    exact, differing, nothing = counted(replay)
    yield f"{exact} bit-exact, {differing} otherwise, {nothing} with nothing to compare"
    yield from (f"! {note}" for note in replay.notes)


def _one(one: Replayed, optimizer: str) -> Iterator[str]:
    head = f"{moment(one.start)} UTC  problem {one.problem}:"
    if one.error:
        yield f"{head} no answer: {one.error}"
        return
    solved = f"cost {number(one.cost[1], 6)}, solved in {number(1000.0 * one.solve_s[1], 3)} ms"
    if one.recorded_by is None:
        yield f"{head} {solved}; no recorded answer to compare with"
        return
    if one.bit_exact and not one.differences:
        yield f"{head} bit-exact; {solved}"
        return
    what = "bit-exact, but statuses differ" if one.bit_exact else "differs"
    yield f"{head} {what} from {one.recorded_by}'s recorded answer; {solved}, recorded {number(one.cost[0], 6)}"
    yield from (f"  {line}" for line in _why(one, optimizer))
    for found in one.differences[:MOST_SHOWN]:
        yield from (f"  {line}" for line in _difference(found))
    if len(one.differences) > MOST_SHOWN:
        yield f"  and {len(one.differences) - MOST_SHOWN} slices more; --json has all"


def _why(one: Replayed, optimizer: str) -> Iterator[str]:
    if one.exact_at_deadline_s is not None:
        yield (
            f"with a deadline of {one.exact_at_deadline_s:g} s in place of {one.deadline_s:g} s it is bit-exact: "
            "the clock had cut this replay short, not the optimizer changed"
        )
    elif one.tried_error:
        yield f"with a deadline of {one.tried_deadline_s:g} s it gave no answer: {one.tried_error}"
    elif one.tried_deadline_s is not None:
        yield f"with a deadline of {one.tried_deadline_s:g} s in place of {one.deadline_s:g} s it differs, too"
    if one.versions[0] != one.versions[1]:
        yield f"version {one.versions[0] or UNKNOWN} then, {one.versions[1] or UNKNOWN} now"
    elif was_cut_short(one) and one.recorded_by == optimizer:
        yield (
            f"the recorded answer took {number(one.solve_s[0], 3)} s of its {one.deadline_s:g} s: its deadline "
            "may have cut it short, and then none can be the same"
        )
    elif is_broken(one, optimizer):
        yield (
            f"same version {one.versions[0]}: was the slice model replaced, or is it another machine or build of "
            "PyTorch?"
        )


def _difference(found: Difference) -> Iterator[str]:
    cost = f"cost {number(found.cost[0], 6)} → {number(found.cost[1], 6)}"
    status = (
        ""
        if found.status[0] == found.status[1]
        else f", {found.status[0] or 'absent'} → {found.status[1] or 'absent'}"
    )
    yield f"slice {found.slice}: {cost}{status}"
    for name, pair in found.values.items():
        share = relative(pair)
        off = "" if share is None else f" ({share:+.2e})"
        yield f"  {name} {_exact(pair[0])} → {_exact(pair[1])}{off}"


def _exact(value: float | None) -> str:
    return UNKNOWN if value is None else repr(value)
