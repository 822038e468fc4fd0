"""Static planning for the peak, as slices are dimensioned without a controller (Peak-alloc, paper §VI-A2)."""

from microopt.errors import ConfigError
from microopt.messages import Interval, Problem, SliceProblem, Traffic
from microopt.specs import PeakSla, PoolSpec, Sla, SliceSpec
from microopt_optimizer.baselines.peak import PeakSolver
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed.traffic import FIRST_MONDAY


def static_allocation(spec: SliceSpec, pool: PoolSpec, model: TrainedModel, peak: PeakSla) -> dict[str, float]:
    """Return the cheapest allocation that holds for `peak`, all the time.

    Raises:
        ConfigError: nothing within the slice's bounds is enough.
    """
    allocation, lacking = static_plan(spec, pool, model, peak)
    if lacking:
        raise ConfigError(f"peak allocation: {lacking}")
    return allocation


def static_plan(
    spec: SliceSpec, pool: PoolSpec, model: TrainedModel, peak: PeakSla
) -> tuple[dict[str, float], str]:
    """Return what a slice is given for `peak`, and why that is not enough: it then is its ceilings."""
    ask = SliceProblem(
        slice=spec.slice,
        sla=Sla(qos_threshold=peak.qos_threshold, degradation_threshold=peak.degradation_threshold),
        traffic=Traffic((peak.users,), (1.0,)),
        bounds=spec.bounds,
        model=spec.model,
        peak=peak,
    )
    problem = Problem(pool=pool.pool, interval=Interval(FIRST_MONDAY, 1.0), resources=pool.resources, slices=[ask])
    answer = PeakSolver().solve(problem, {spec.model: model}).slices[0]
    return answer.allocation, answer.reason if answer.status == "infeasible" else ""
