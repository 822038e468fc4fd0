"""A recorded problem, answered again: what differs from the recorded answer, to the last bit."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from microopt.messages import Answer, SliceSolution, Solution, Values
from microopt_optimizer.report.figures import solution_cost

CUT_SHARE: Final = 0.5
"""An answer that took this share of its deadline may have been cut short: parts of a solve have parts of it."""


class Difference(Struct, frozen=True, kw_only=True):
    """One slice that was answered otherwise: recorded and new values of each resource, status and cost.

    `status` is "" where a slice was not answered for.
    """

    slice: str
    values: dict[str, tuple[float | None, float | None]]
    status: tuple[str, str]
    cost: tuple[float, float]


class Replayed(Struct, frozen=True, kw_only=True):
    """One problem, answered again.

    `recorded_by` is whose answer it is compared with, None where there is none. `bit_exact` says that all
    allocations are equal to the last bit. `exact_at_deadline_s` is the larger deadline at which they were,
    where at the recorded one they were not; `tried_error` is why there was no answer at the larger one.
    """

    problem: str
    start: datetime
    deadline_s: float
    recorded_by: str | None
    versions: tuple[str, str]
    cost: tuple[float | None, float]
    solve_s: tuple[float | None, float]
    bit_exact: bool
    differences: tuple[Difference, ...] = ()
    exact_at_deadline_s: float | None = None
    tried_deadline_s: float | None = None
    tried_error: str = ""
    error: str = ""


class Replay(Struct, frozen=True, kw_only=True):
    """All that were answered again by one optimizer."""

    pool: str
    optimizer: str
    replayed: tuple[Replayed, ...]
    notes: tuple[str, ...] = ()

    @property
    def broken(self) -> list[Replayed]:
        """Return those that an optimizer of the recorded version answers otherwise than it did."""
        return [one for one in self.replayed if is_broken(one, self.optimizer)]


def is_broken(one: Replayed, optimizer: str) -> bool:
    """Return whether the same optimizer in the same version gives another answer, and no clock is to blame.

    Another optimizer's answer differs by right; so does one that a deadline had cut short, then or now.
    """
    same = one.recorded_by == optimizer and (bool(one.error) or one.versions[0] == one.versions[1])
    return same and not one.bit_exact and one.exact_at_deadline_s is None and not was_cut_short(one)


def was_cut_short(one: Replayed) -> bool:
    """Return whether the recorded answer may have been ended by its deadline: no replay can give it again."""
    recorded_s = one.solve_s[0]
    return recorded_s is not None and recorded_s >= CUT_SHARE * one.deadline_s


def differences(recorded: Solution, again: Solution, weights: Mapping[str, float]) -> tuple[Difference, ...]:
    """Return the slices whose allocation or status are not the same, in the order of their names."""
    before, after = _by_slice(recorded), _by_slice(again)
    return tuple(
        Difference(
            slice=name,
            values=dict(_values(_allocation(before.get(name)), _allocation(after.get(name)))),
            status=(_status(before.get(name)), _status(after.get(name))),
            cost=(_cost(before.get(name), weights), _cost(after.get(name), weights)),
        )
        for name in sorted({*before, *after})
        if not _same(before.get(name), after.get(name))
    )


def bit_exact(recorded: Solution, again: Solution) -> bool:
    """Return whether both have the same slices with allocations that are equal to the last bit."""
    return _bits(recorded) == _bits(again)


def replayed(
    start: datetime, problem: str, deadline_s: float, weights: Mapping[str, float],
    recorded: Answer | None, again: Solution,
) -> Replayed:  # fmt: skip
    """Return how a new answer compares with the recorded one."""
    former = recorded.solution if recorded else None
    return Replayed(
        problem=problem,
        start=start,
        deadline_s=deadline_s,
        recorded_by=recorded.optimizer if recorded and former else None,
        versions=(former.version if former else "", again.version),
        cost=(solution_cost(former.slices, weights) if former else None, solution_cost(again.slices, weights)),
        solve_s=(former.solve_s if former else None, again.solve_s),
        bit_exact=former is not None and bit_exact(former, again),
        differences=differences(former, again, weights) if former else (),
    )


def _bits(solution: Solution) -> dict[str, dict[str, str]]:
    return {
        one.slice: {name: float(value).hex() for name, value in one.allocation.items()} for one in solution.slices
    }


def _by_slice(solution: Solution) -> dict[str, SliceSolution]:
    return {one.slice: one for one in solution.slices}


def _same(before: SliceSolution | None, after: SliceSolution | None) -> bool:
    return before is not None and after is not None and (
        before.status == after.status and not list(_values(before.allocation, after.allocation))
    )  # fmt: skip


def _values(before: Values, after: Values) -> Iterator[tuple[str, tuple[float | None, float | None]]]:
    for name in sorted({*before, *after}):
        pair = before.get(name), after.get(name)
        if pair[0] != pair[1]:
            yield name, pair


def _allocation(one: SliceSolution | None) -> Values:
    return one.allocation if one else {}


def _status(one: SliceSolution | None) -> str:
    return one.status if one else ""


def _cost(one: SliceSolution | None, weights: Mapping[str, float]) -> float:
    return solution_cost([one], weights) if one else 0.0


def counted(replay: Replay) -> tuple[int, int, int]:
    """Return how many problems were bit-exact, differed, and had nothing to compare with or no answer."""
    exact = sum(one.bit_exact for one in replay.replayed)
    nothing = sum(not one.bit_exact and (one.recorded_by is None or bool(one.error)) for one in replay.replayed)
    return exact, len(replay.replayed) - exact - nothing, nothing


def relative(values: Sequence[float | None]) -> float | None:
    """Return by what share of the recorded value a new one is off, None where one of them is missing or 0."""
    before, after = values
    return None if before is None or after is None or before == 0.0 else (after - before) / before
