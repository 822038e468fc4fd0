"""Pools whose capacity binds, against problems that are solved exactly."""

import math

import pytest
from msgspec.structs import replace
from scipy.optimize import brentq

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
