import statistics

import pytest

from microopt.specs import PeakSla
from microopt_optimizer.baselines.peak import PeakSolver

ETA = {"gnb_cpu": 1.0, "transport_bandwidth": 2.0}


def test_the_peak_rules_whatever_the_forecast(cobb_douglas, slice_problem, problem):
    solver, models = PeakSolver(), {"m": cobb_douglas()}
    quiet, busy = (
        solver.solve(problem(slice_problem(users=(users,), qos=4.9)), models).slices[0] for users in (4.5, 5.0)
    )
    needed = (5.0 + 0.5 * statistics.NormalDist().inv_cdf(0.99)) * 5.0
    exact = 2.0 * needed * (ETA["gnb_cpu"] * ETA["transport_bandwidth"]) ** 0.5
    assert quiet.allocation == busy.allocation
    assert exact <= quiet.cost <= exact * 1.01
    assert (quiet.status, quiet.reason) == ("feasible", "")
    assert quiet.expected_degradation < busy.expected_degradation < 0.01


def test_a_peak_that_cannot_be_met_gets_the_ceilings(cobb_douglas, slice_problem, problem):
    one = slice_problem(peak=PeakSla(users=1000.0))
    solution = PeakSolver().solve(problem(one), {"m": cobb_douglas()})
    assert solution.capacity_prices == {}  # unknown, not free
    answer = solution.slices[0]
    assert answer.status == "infeasible"
    assert answer.allocation == {"gnb_cpu": 100.0, "transport_bandwidth": 100.0}
    assert "slice 1-000001: nothing within its bounds keeps 1000 users" in answer.reason


def test_a_grid_answer_is_searched_once(cobb_douglas, slice_problem, problem):
    class Counting(cobb_douglas):
        def __call__(self, users, resources):
            rows.append(resources.shape[0])
            return super().__call__(users, resources)

    rows = []
    solver, model = PeakSolver(), Counting()
    solver.solve(problem(slice_problem(1), slice_problem(2)), {"m": model})
    searched = sum(rows)
    solver.solve(problem(slice_problem(3, users=(1.0,))), {"m": model})
    assert searched >= 401 * 401
    assert sum(rows) - searched < 100
    solver.solve(problem(slice_problem(1, peak=PeakSla(users=4.0))), {"m": model})
    assert sum(rows) - searched >= 401 * 401


def test_peaks_beyond_the_capacity_are_shorted_by_priority(cobb_douglas, slice_problem, problem):
    slices = [slice_problem(1, users=(4.0,)), slice_problem(2, users=(4.0,), priority=3)]
    models = {"m": cobb_douglas()}
    full = PeakSolver().solve(problem(slices[1]), models).slices[0]
    capacity = {name: 1.3 * value for name, value in full.allocation.items()}
    low, high = PeakSolver().solve(problem(*slices, capacity=capacity), models).slices
    assert high.allocation == pytest.approx({name: v for name, v in full.allocation.items()})
    assert low.status == "infeasible"
    assert "capacities of pool edge" in low.reason
    for name, value in capacity.items():
        assert low.allocation[name] + high.allocation[name] <= value


@pytest.mark.parametrize(
    "exponents", [{"gnb_cpu": 1.0}, {"upf_cpu": 0.3, "gnb_cpu": 0.4, "transport_bandwidth": 0.3}]
)
def test_any_number_of_resources_is_searched(cobb_douglas, slice_problem, problem, exponents):
    model = cobb_douglas(exponents)
    eta = dict.fromkeys(exponents, 1.0)
    one = slice_problem(bounds={name: (0.5, 100.0) for name in exponents}, peak=PeakSla(users=3.0))
    answer = PeakSolver().solve(problem(one, weights=eta), {"m": model}).slices[0]
    needed = (5.0 + 0.5 * statistics.NormalDist().inv_cdf(0.99)) * 3.0
    exact = needed * len(exponents)
    if len(exponents) == 3:
        exact = needed / (0.3**0.3 * 0.4**0.4 * 0.3**0.3)
    assert exact <= answer.cost <= exact * 1.05
