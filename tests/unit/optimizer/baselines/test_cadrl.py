import random

import numpy as np
import pytest
import torch

from microopt_optimizer.baselines.cadrl.interior_point import advantages_with_barrier
from microopt_optimizer.baselines.cadrl.settings import CadrlSettings
from microopt_optimizer.baselines.cadrl.solver import CadrlPlusSolver, CadrlSolver
from microopt_optimizer.slice_model.distribution import normal
from microopt_optimizer.solver.registry import create

ETA = {"gnb_cpu": 1.0, "transport_bandwidth": 2.0}
QUICK = CadrlSettings(
    iterations=60, environments=128, epochs=3, minibatches=1, learning_rate=0.08, width=8, layers=1, last_t=1e3
)
TINY = CadrlSettings(iterations=5, environments=16, epochs=2, minibatches=1, width=8, layers=1)


@pytest.fixture(params=[CadrlSolver, CadrlPlusSolver], ids=["cadrl", "cadrl-plus"])
def solver_type(request):
    return request.param


def exact_cost(model, users, qos=3.0):
    return sum(ETA[name] * value for name, value in model.cheapest(users, qos, ETA).items())


def test_constant_traffic_is_met_near_the_least_cost(cobb_douglas, slice_problem, problem):
    model = cobb_douglas()
    answer = CadrlSolver(QUICK).solve(problem(slice_problem(users=(5.0,))), {"m": model}).slices[0]
    exact = exact_cost(model, 5.0)
    assert answer.status == "feasible"
    assert answer.expected_degradation <= 0.1
    assert exact <= answer.cost <= 1.05 * exact


def test_lower_qos_can_be_better(cobb_douglas, slice_problem, problem):
    model = cobb_douglas(gain=0.1, std=0.05, higher_is_better=False)
    one = slice_problem(users=(2.0,), qos=1.0, higher_is_better=False)
    answer = CadrlSolver(QUICK).solve(problem(one), {"m": model}).slices[0]
    exact = exact_cost(model, 2.0, qos=1.0)
    assert answer.status == "feasible"
    assert exact <= answer.cost <= 1.05 * exact


def test_an_optimum_at_a_floor_is_found(cobb_douglas, slice_problem, problem):
    one = slice_problem(users=(0.1,))
    answer = CadrlSolver(QUICK).solve(problem(one), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "feasible"
    assert all(0.5 <= value <= 1.5 for value in answer.allocation.values())


def test_only_the_plus_looks_below_the_peak(cobb_douglas, slice_problem, problem):
    model = cobb_douglas()
    one = slice_problem(users=(2.0, 4.0, 9.0), weights=(0.8, 0.2, 0.0))
    peak, plus = (
        solver.solve(problem(one), {"m": model}).slices[0]
        for solver in (CadrlSolver(QUICK), CadrlPlusSolver(QUICK))
    )
    assert (peak.status, plus.status) == ("feasible", "feasible")
    assert exact_cost(model, 4.0) <= peak.cost <= 1.05 * exact_cost(model, 4.0)
    assert plus.cost < 0.99 * peak.cost
    assert peak.expected_degradation < plus.expected_degradation <= 0.1


def test_both_say_the_same_of_constant_traffic(cobb_douglas, slice_problem, problem):
    one, models = problem(slice_problem()), {"m": cobb_douglas()}
    answers = [solver(TINY).solve(one, models).slices for solver in (CadrlSolver, CadrlPlusSolver)]
    assert answers[0] == answers[1]


def test_the_same_problem_gets_the_same_answer_in_any_company(cobb_douglas, slice_problem, problem):
    models = {"m": cobb_douglas()}
    alone = CadrlSolver(TINY).solve(problem(slice_problem(1)), models).slices[0]
    torch.manual_seed(99)
    other, again = (
        CadrlSolver(TINY).solve(problem(slice_problem(2, users=(3.0,)), slice_problem(1)), models).slices
    )
    assert again == alone
    assert other.allocation != alone.allocation


def test_the_random_generators_are_left_as_they_were(cobb_douglas, slice_problem, problem):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    expected = (random.random(), np.random.random(), float(torch.rand(())))
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    CadrlSolver(TINY).solve(problem(slice_problem()), {"m": cobb_douglas()})
    assert (random.random(), np.random.random(), float(torch.rand(()))) == expected


def test_nothing_is_written(cobb_douglas, slice_problem, problem, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    CadrlSolver(TINY).solve(problem(slice_problem()), {"m": cobb_douglas()})
    assert list(tmp_path.iterdir()) == []


def test_the_deadline_ends_training_with_an_answer(cobb_douglas, slice_problem, problem):
    class Counting(cobb_douglas):
        def __call__(self, users, resources):
            calls.append(1)
            return super().__call__(users, resources)

    calls = []
    endless = CadrlSettings(iterations=10**6, environments=16)
    one = problem(slice_problem(1), slice_problem(2), deadline_s=0.2)
    answers = CadrlSolver(endless).solve(one, {"m": Counting()}).slices
    assert len(calls) < 10**5
    for answer in answers:
        assert all(0.5 <= value <= 100.0 for value in answer.allocation.values())


def test_what_no_allocation_reaches_is_declared_with_the_least_degraded(cobb_douglas, slice_problem, problem):
    one = slice_problem(users=(50.0,))
    answer = CadrlSolver(QUICK).solve(problem(one), {"m": cobb_douglas(std=2.0)}).slices[0]
    assert answer.status == "infeasible"
    assert all(90.0 <= value <= 100.0 for value in answer.allocation.values())
    assert "slice 1-000001: training for up to 50 users found nothing within its bounds" in answer.reason


def test_a_peak_out_of_reach_is_no_matter_where_the_forecast_is_met(cobb_douglas, slice_problem, problem):
    one = slice_problem(users=(1.0, 30.0), weights=(0.999, 0.001))
    answer = CadrlSolver(QUICK).solve(problem(one), {"m": cobb_douglas(std=2.0)}).slices[0]
    assert (answer.status, answer.reason) == ("feasible", "")


def test_a_model_that_says_nothing_is_declared_infeasible_soon(cobb_douglas, slice_problem, problem):
    class Silent(cobb_douglas):
        def __call__(self, users, resources):
            calls.append(1)
            mean = torch.nan * (users + resources[..., 0])
            return normal(mean, mean)

    calls = []
    answer = (
        CadrlPlusSolver(CadrlSettings(iterations=1000, environments=16, epochs=1))
        .solve(problem(slice_problem()), {"m": Silent()})
        .slices[0]
    )
    assert (answer.status, answer.expected_degradation) == ("infeasible", 1.0)
    assert "found nothing within its bounds" in answer.reason
    assert len(calls) < 100


@pytest.mark.parametrize(
    "exponents", [{"gnb_cpu": 1.0}, {"upf_cpu": 0.3, "gnb_cpu": 0.4, "transport_bandwidth": 0.3}]
)
def test_any_number_of_resources_is_learned(cobb_douglas, slice_problem, problem, exponents):
    model, eta = cobb_douglas(exponents), dict.fromkeys(exponents, 1.0)
    one = slice_problem(users=(5.0,), bounds={name: (0.5, 100.0) for name in exponents})
    answer = CadrlSolver(QUICK).solve(problem(one, weights=eta), {"m": model}).slices[0]
    exact = sum(model.cheapest(5.0, 3.0, eta).values())
    assert answer.status == "feasible"
    assert exact <= answer.cost <= 1.1 * exact


def test_bounds_that_leave_no_choice_are_kept(cobb_douglas, slice_problem, problem):
    one = slice_problem(bounds={"gnb_cpu": (20.0, 20.0), "transport_bandwidth": (30.0, 30.0)})
    answer = CadrlSolver(TINY).solve(problem(one), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "feasible"
    assert answer.allocation == {"gnb_cpu": 20.0, "transport_bandwidth": 30.0}


def test_a_slice_without_traffic_gets_its_floors(solver_type, cobb_douglas, slice_problem, problem):
    answer = solver_type(TINY).solve(problem(slice_problem(users=(0.0,))), {"m": cobb_douglas()}).slices[0]
    assert answer.allocation == {"gnb_cpu": 0.5, "transport_bandwidth": 0.5}


def test_the_barrier_adds_its_gradient_to_the_advantages():
    rewards, costs = np.array([1.0, -1.0]), np.array([0.02, 0.06])
    found = advantages_with_barrier(rewards, costs, threshold=0.1, t=5.0)
    assert found == pytest.approx([1.0 + 0.02 / (5.0 * 0.06), -1.0 - 0.02 / (5.0 * 0.06)])


def test_only_the_constraint_counts_while_it_is_broken():
    found = advantages_with_barrier(np.array([1.0, -1.0]), np.array([0.2, 0.6]), threshold=0.1, t=5.0)
    assert found == pytest.approx([0.2, -0.2])


@pytest.mark.parametrize(("name", "kind"), [("cadrl", CadrlSolver), ("cadrl-plus", CadrlPlusSolver)])
def test_they_are_made_by_name(name, kind):
    solver = create(name)
    assert isinstance(solver, kind)
    assert solver.name == name
