"""Pools whose capacity binds, against problems that are solved exactly."""

import math

import pytest
import torch
from msgspec.structs import replace
from scipy.optimize import brentq

from microopt_optimizer.slice_model.distribution import normal
from microopt_optimizer.solver.microopt import MicroOptSolver

CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"
ETA = {CPU: 1.0, BANDWIDTH: 2.0}
SOLVER = MicroOptSolver()


def exact(models, slices, capacity):
    """Return the price of CPU that clears `capacity`, and the least cost: a slice's answer has a closed form."""

    def answers(price):
        return [
            models[one.model].cheapest(
                one.traffic.users[0], one.sla.qos_threshold, {CPU: 1.0 + price, BANDWIDTH: 2.0}
            )
            for one in slices
        ]

    price = brentq(lambda price: sum(answer[CPU] for answer in answers(price)) - capacity, 0.0, 100.0, xtol=1e-12)
    return price, sum(ETA[name] * answer[name] for answer in answers(price) for name in ETA)


def crowd(cobb_douglas, slice_problem, count, ceiling=200.0):
    models, slices = {}, []
    for number in range(count):
        share = 0.3 + 0.4 * (number % 7) / 6.0
        models[f"m{number}"] = cobb_douglas({CPU: share, BANDWIDTH: 1.0 - share}, gain=1.0 + 0.1 * (number % 3))
        users, qos = 1.0 + number % 5, 3.0 + 0.5 * (number % 4)
        bounds = {CPU: (0.5, ceiling), BANDWIDTH: (0.5, ceiling)}
        slices.append(slice_problem(number, users=(users,), qos=qos, model=f"m{number}", bounds=bounds))
    return models, slices


def in_force(slices, solution):
    pairs = zip(slices, solution.slices, strict=True)
    return [replace(one, current=answer.allocation) for one, answer in pairs]


@pytest.mark.parametrize("count", [2, 5, 40])
@pytest.mark.parametrize("ceiling", [200.0, 5000.0])
def test_price_cost_and_bound_are_those_of_the_exact_solution(
    cobb_douglas, slice_problem, problem, count, ceiling
):
    models, slices = crowd(cobb_douglas, slice_problem, count, ceiling)
    ample = SOLVER.solve(problem(*slices), models)
    capacity = 0.8 * sum(answer.allocation[CPU] for answer in ample.slices)
    scarce = SOLVER.solve(problem(*slices, capacity={CPU: capacity}), models)
    price, cost = exact(models, slices, capacity)
    assert sum(answer.allocation[CPU] for answer in scarce.slices) <= capacity
    assert {answer.status for answer in scarce.slices} == {"optimal"}
    assert sum(answer.cost for answer in scarce.slices) == pytest.approx(cost, rel=1e-4)
    assert scarce.capacity_prices[CPU] == pytest.approx(price, rel=0.02)
    assert scarce.capacity_prices[BANDWIDTH] == 0.0
    # No more than the least cost, and near to it.
    assert cost * (1.0 - 1e-4) <= scarce.cost_bound <= cost * (1.0 + 1e-5)


@pytest.mark.parametrize("deadline_s", [0.3, 60.0])
def test_a_shortage_that_others_can_make_up_for_is_none(cobb_douglas, slice_problem, problem, deadline_s):
    class Harmonic(cobb_douglas):
        def __call__(self, users, resources):
            mean = 4.0 / (1.0 / resources.clamp(min=1e-9)).sum(-1) / users.clamp(min=1e-9)
            return normal(mean, torch.full_like(mean, self.std))

    eta = {CPU: 1.0, BANDWIDTH: 2.0, "upf_cpu": 1.0}
    models = {"m": Harmonic(dict.fromkeys(eta, 1.0))}
    traffic, bounds = (1.0, 2.0, 3.0, 2.5), dict.fromkeys(eta, (0.0, 1e4))
    slices = [slice_problem(number, users=traffic, bounds=bounds) for number in range(100)]
    ample = SOLVER.solve(problem(slices[0], weights=eta), models).slices[0]
    # Far from the walks of slices that know no scarcity, and a thousandth of the bounds.
    scarce = {CPU: 0.4 * ample.allocation[CPU] * len(slices)}
    solution = SOLVER.solve(problem(*slices, weights=eta, capacity=scarce, deadline_s=deadline_s), models)
    assert {answer.status for answer in solution.slices} <= {"optimal", "feasible"}
    assert sum(answer.allocation[CPU] for answer in solution.slices) <= scarce[CPU]
    if deadline_s > 1.0:
        cost = sum(answer.cost for answer in solution.slices)
        assert cost * (1.0 - 1e-3) <= solution.cost_bound <= cost


@pytest.mark.parametrize("weight", [1e-9, 1e-3])
def test_what_is_nearly_free_can_be_scarce(cobb_douglas, slice_problem, problem, weight):
    bounds = {CPU: (0.0, 1e4), BANDWIDTH: (0.0, 1e4)}
    slices = [slice_problem(number, bounds=bounds) for number in range(3)]
    asked = problem(*slices, weights={CPU: weight, BANDWIDTH: 1.0}, capacity={CPU: 30.0})
    solution = SOLVER.solve(asked, {"m": cobb_douglas()})
    assert {answer.status for answer in solution.slices} <= {"optimal", "feasible"}
    # All three are equal: a third of it each, and as much bandwidth as that takes.
    cost = 3.0 * (weight * 10.0 + cobb_douglas().needed(2.0, 3.0) ** 2 / 10.0)
    assert sum(answer.cost for answer in solution.slices) == pytest.approx(cost, rel=1e-3)


def test_without_time_no_bound_is_claimed(cobb_douglas, slice_problem, problem):
    models, slices = crowd(cobb_douglas, slice_problem, 3)
    assert SOLVER.solve(problem(*slices, deadline_s=1e-9), models).cost_bound is None
    assert SOLVER.solve(problem(*slices), models).cost_bound is not None


def test_last_intervals_answer_is_a_good_place_to_begin(cobb_douglas, slice_problem, problem):
    models, slices = crowd(cobb_douglas, slice_problem, 20)
    ample = SOLVER.solve(problem(*slices), models)
    capacity = {CPU: 0.8 * sum(answer.allocation[CPU] for answer in ample.slices)}
    before = SOLVER.solve(problem(*slices, capacity=capacity), models)
    asked = problem(*in_force(slices, before), capacity=capacity)
    warm = SOLVER.solve(replace(asked, capacity_prices=before.capacity_prices), models)
    cost = sum(answer.cost for answer in before.slices)
    assert sum(answer.cost for answer in warm.slices) == pytest.approx(cost, rel=1e-3)
    assert warm.capacity_prices[CPU] == pytest.approx(before.capacity_prices[CPU], rel=0.02)


def test_prices_of_a_shortage_that_is_over_are_forgotten(cobb_douglas, slice_problem, problem):
    models, slices = crowd(cobb_douglas, slice_problem, 5)
    cold = SOLVER.solve(problem(*slices), models)
    warm = SOLVER.solve(replace(problem(*in_force(slices, cold)), capacity_prices={CPU: 3.0}), models)
    assert warm.capacity_prices == {CPU: 0.0, BANDWIDTH: 0.0}
    cost = math.fsum(answer.cost for answer in cold.slices)
    assert math.fsum(answer.cost for answer in warm.slices) == pytest.approx(cost, rel=1e-4)


def test_without_capacity_nothing_is_given_and_all_are_declared_short(cobb_douglas, slice_problem, problem):
    models, slices = crowd(cobb_douglas, slice_problem, 3)
    solution = SOLVER.solve(problem(*slices, capacity={CPU: 0.0}), models)
    for answer in solution.slices:
        assert answer.allocation[CPU] == 0.0
        assert answer.status == "infeasible"
        assert "the capacities of pool edge do not hold all slices" in answer.reason
    assert solution.cost_bound is None


def test_many_slices_are_shorted_by_priority_and_the_others_hold(cobb_douglas, slice_problem, problem):
    models, slices = crowd(cobb_douglas, slice_problem, 30)
    slices = [replace(one, priority=number % 3) for number, one in enumerate(slices)]
    bounds = {CPU: (0.5, 60.0), BANDWIDTH: (0.5, 60.0)}
    least = sum(_least_cpu(models[one.model], one, bounds[BANDWIDTH][1]) for one in slices if one.priority > 0)
    slices = [
        replace(one, bounds={name: type(one.bounds[name])(*pair) for name, pair in bounds.items()})
        for one in slices
    ]
    capacity = 1.1 * least + sum(one.bounds[CPU].floor for one in slices if one.priority == 0)
    solution = SOLVER.solve(problem(*slices, capacity={CPU: capacity}), models)
    assert sum(answer.allocation[CPU] for answer in solution.slices) <= capacity * (1.0 + 1e-12)
    for one, answer in zip(slices, solution.slices, strict=True):
        assert (answer.status == "infeasible") == (one.priority == 0)


def _least_cpu(model, one, bandwidth):
    """Return the least CPU that holds the SLA with that bandwidth."""
    share = model.exponents[CPU]
    needed = model.needed(one.traffic.users[0], one.sla.qos_threshold)
    return (needed / bandwidth ** (1.0 - share)) ** (1.0 / share)
