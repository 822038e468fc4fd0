import math

import pytest

from microopt_optimizer.baselines.paper import PaperSolver
from microopt_optimizer.baselines.paper_descent import PaperSettings
from microopt_optimizer.baselines.scalar import TwoSigmaSolver, ZeroSigmaSolver

QUICK = PaperSettings(outer_rounds=50)
SOLVERS = {0.0: ZeroSigmaSolver, 2.0: TwoSigmaSolver}


@pytest.mark.parametrize("sigmas", SOLVERS)
@pytest.mark.parametrize("higher_is_better", [True, False])
def test_constant_traffic_gets_just_what_the_number_needs(
    cobb_douglas, slice_problem, problem, sigmas, higher_is_better
):
    model = cobb_douglas() if higher_is_better else cobb_douglas(gain=0.05, higher_is_better=False)
    one = slice_problem(higher_is_better=higher_is_better)
    answer = SOLVERS[sigmas](QUICK).solve(problem(one), {"m": model}).slices[0]
    needed = (3.0 + 0.5 * sigmas) * 2.0 if higher_is_better else 2.0 / ((3.0 - 0.5 * sigmas) * 0.05)
    exact = 2.0 * needed * math.sqrt(2.0)
    assert exact - 1e-6 <= answer.cost <= exact * 1.03


def test_the_mean_alone_leaves_half_of_the_user_time_degraded_and_says_so(cobb_douglas, slice_problem, problem):
    answer = ZeroSigmaSolver(QUICK).solve(problem(slice_problem()), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "infeasible"
    assert 0.4 <= answer.expected_degradation <= 0.5
    assert "slice 1-000001: microopt-0sigma takes the QoS to be its mean" in answer.reason
    assert "threshold 0.1" in answer.reason


def test_two_deviations_are_dearer_than_the_distribution_and_hardly_degraded(cobb_douglas, slice_problem, problem):
    asked = problem(slice_problem(beta=0.2))
    careful, exact = (
        solver.solve(asked, {"m": cobb_douglas()}).slices[0]
        for solver in (TwoSigmaSolver(QUICK), PaperSolver(QUICK))
    )
    assert (careful.status, careful.reason) == ("feasible", "")
    assert careful.expected_degradation <= 0.0228
    assert careful.cost > 1.1 * exact.cost


def test_of_varying_traffic_a_share_within_the_threshold_may_miss(cobb_douglas, slice_problem, problem):
    rare_peak = slice_problem(users=(2.0, 4.0), weights=(0.96, 0.04), beta=0.1)
    frequent_peak = slice_problem(users=(2.0, 4.0), weights=(0.5, 0.5), beta=0.1)
    low, high = (
        ZeroSigmaSolver(QUICK).solve(problem(one), {"m": cobb_douglas()}).slices[0].cost
        for one in (rare_peak, frequent_peak)
    )
    per_user = 2.0 * 3.0 * math.sqrt(2.0)
    assert 2.0 * per_user - 1e-6 <= low <= 2.0 * per_user * 1.1
    assert 4.0 * per_user - 1e-6 <= high <= 4.0 * per_user * 1.1


def test_a_number_that_is_never_reached_is_infeasible_with_the_ceilings(cobb_douglas, slice_problem, problem):
    answer = TwoSigmaSolver(QUICK).solve(problem(slice_problem(qos=60.0)), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "infeasible"
    assert answer.allocation == {"gnb_cpu": 100.0, "transport_bandwidth": 100.0}
    assert "takes the QoS" not in answer.reason
