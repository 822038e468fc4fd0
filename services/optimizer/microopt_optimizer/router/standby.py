"""When no optimizer's answer can be used: the last good allocation, else Peak-alloc (docs/adr/0016)."""

from collections.abc import Mapping
from typing import Final

from microopt.messages import Allocation, Problem, SliceCheck, SliceProblem, SliceSolution, Values
from microopt.specs import SliceSpec
from microopt_optimizer.router.guard import Verdict
from microopt_optimizer.router.judging import holds

LAST: Final = "=last"
PEAK: Final = "=peak"
"""What stands in is treated as answers of two optimizers more; no real one can have these names."""

Candidates = dict[str, dict[str, Values]]


def candidates(
    problem: Problem, slices: Mapping[str, SliceSpec], last: Mapping[str, Allocation | None]
) -> Candidates:
    """Return the last allocations and Peak-allocs of the problem's slices, within their present bounds."""
    found: Candidates = {LAST: {}, PEAK: {}}
    for one in problem.slices:
        former, spec = last.get(one.slice), slices.get(one.slice)
        if former is not None and set(former.values) == set(one.bounds):
            found[LAST][one.slice] = _within(one, former.values)
        if spec is not None and set(spec.peak_allocation) == set(one.bounds):
            found[PEAK][one.slice] = _within(one, spec.peak_allocation)
    return found


def verdicts(
    problem: Problem, options: Candidates, checks: Mapping[str, Mapping[str, SliceCheck]]
) -> dict[str, Verdict]:
    """Return what may stand in.

    The last allocation may where the slice model says that it holds the SLA with the present forecast, or where
    the slice has no Peak-alloc.
    """
    allowed = {one.slice: one.sla.degradation_threshold for one in problem.slices}
    found: dict[str, Verdict] = {}
    for name in (LAST, PEAK):
        accepted: dict[str, SliceSolution] = {}
        refused: dict[str, str] = {}
        for slice_, values in options[name].items():
            check = checks.get(name, {}).get(slice_)
            is_good = holds(check, allowed[slice_])
            if name == LAST and not is_good and slice_ in options[PEAK]:
                refused[slice_] = _why_not(check, allowed[slice_])
                continue
            accepted[slice_] = SliceSolution(
                slice=slice_,
                allocation=values,
                status="feasible" if is_good else "infeasible",
                expected_degradation=check.expected_degradation if check else None,
                reason="" if is_good else f"nothing better is known; {_why_not(check, allowed[slice_])}",
            )
        found[name] = Verdict(accepted, refused)
    return found


def _why_not(check: SliceCheck | None, allowed: float) -> str:
    if check is None or check.expected_degradation is None:
        return f"it cannot be checked: {check.error if check and check.error else 'no slice model was asked'}"
    return f"the slice model expects degradation {check.expected_degradation:.4f} > {allowed:g}"


def _within(asked: SliceProblem, values: Values) -> Values:
    return {
        name: min(max(value, asked.bounds[name].floor), asked.bounds[name].ceiling)
        for name, value in values.items()
    }
