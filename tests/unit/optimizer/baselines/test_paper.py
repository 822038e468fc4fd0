import math

import pytest
import torch

from microopt_optimizer.baselines.model_batch import model_batches
from microopt_optimizer.baselines.paper import PaperSolver
from microopt_optimizer.baselines.paper_descent import PaperSettings
from microopt_optimizer.baselines.paper_estimate import Estimator
from microopt_optimizer.slice_model.distribution import QosDistribution
from microopt_optimizer.solver.pool import Pool

PRICES = {"gnb_cpu": 1.0, "transport_bandwidth": 2.0}
QUICK = PaperSettings(outer_rounds=30, degradation_step=0.5, slots=256)


class Blind:
    """A model that predicts NaN."""

    def __init__(self, model):
        self.header, self.digest = model.header, "blind"

    def __call__(self, users, resources):
        nothing = ((users + resources[..., 0]) * torch.nan).unsqueeze(-1)
        return QosDistribution(nothing, nothing, nothing)


class Alike:
    """A mixture of two components that are the same normal distribution."""

    def __init__(self, model):
        self.model, self.header, self.digest = model, model.header, "alike"

    def __call__(self, users, resources):
        one = self.model(users, resources)
        return QosDistribution(*(torch.cat([part, part], -1) for part in (one.weight / 2, one.mean, one.std)))


def cost_of(allocation):
    return sum(PRICES[name] * value for name, value in allocation.items())


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_known_optimum_is_neared_from_the_feasible_side(
    cobb_douglas, slice_problem, problem, beta, higher_is_better
):
    model = cobb_douglas() if higher_is_better else cobb_douglas(gain=0.05, higher_is_better=False)
    one = slice_problem(beta=beta, higher_is_better=higher_is_better)
    answer = PaperSolver().solve(problem(one), {"m": model}).slices[0]
    z = math.sqrt(2.0) * float(torch.erfinv(torch.tensor(1.0 - 2.0 * beta, dtype=torch.float64)))
    needed = (3.0 + 0.5 * z) * 2.0 if higher_is_better else 2.0 / ((3.0 - 0.5 * z) * 0.05)
    exact = 2.0 * needed * math.sqrt(2.0)
    assert answer.status == "feasible"
    assert answer.expected_degradation <= beta
    assert exact - 1e-6 <= answer.cost <= exact * 1.03


def test_the_same_problem_has_the_same_answer_and_no_global_seed_is_touched(cobb_douglas, slice_problem, problem):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    asked = problem(slice_problem(users=(1.0, 4.0), weights=(0.7, 0.3)))
    first, second = (PaperSolver(QUICK).solve(asked, {"m": cobb_douglas()}).slices for _ in range(2))
    assert first == second
    assert torch.equal(before, torch.random.get_rng_state())


def test_slices_of_two_models_are_solved_in_one_loop(cobb_douglas, slice_problem, problem):
    models = {"m": cobb_douglas(), "n": cobb_douglas(exponents={"gnb_cpu": 0.3, "transport_bandwidth": 0.7})}
    asked = problem(slice_problem(1), slice_problem(2, model="n"), slice_problem(3, users=(0.0,)))
    answers = PaperSolver(QUICK).solve(asked, models).slices
    assert [answer.status for answer in answers] == ["feasible"] * 3
    assert answers[2].allocation == {"gnb_cpu": 0.5, "transport_bandwidth": 0.5}
    for model, answer in zip(models.values(), answers, strict=False):
        exact = cost_of(model.cheapest(2.0, 3.0, PRICES))
        assert exact - 1e-6 <= answer.cost <= exact * 1.1


def test_a_scarce_resource_gets_a_price_and_the_slices_share_it(cobb_douglas, slice_problem, problem):
    free = cobb_douglas().cheapest(2.0, 3.0, PRICES)
    capacity = {"transport_bandwidth": 1.6 * free["transport_bandwidth"]}
    bounds = {"gnb_cpu": (0.5, 30.0), "transport_bandwidth": (0.5, 30.0)}
    asked = problem(slice_problem(1, bounds=bounds), slice_problem(2, bounds=bounds), capacity=capacity)
    solution = PaperSolver().solve(asked, {"m": cobb_douglas()})
    each = {"transport_bandwidth": 0.8 * free["transport_bandwidth"], "gnb_cpu": free["gnb_cpu"] / 0.8}
    used = sum(answer.allocation["transport_bandwidth"] for answer in solution.slices)
    assert [answer.status for answer in solution.slices] == ["feasible"] * 2
    assert used <= capacity["transport_bandwidth"]
    assert solution.capacity_prices["transport_bandwidth"] > 0.0
    assert solution.capacity_prices["gnb_cpu"] == 0.0
    assert sum(answer.cost for answer in solution.slices) <= 2.0 * cost_of(each) * 1.05


def test_capacities_that_hold_no_solution_short_the_lower_priority(cobb_douglas, slice_problem, problem):
    first, second = slice_problem(1, priority=1), slice_problem(2, priority=0)
    asked = problem(first, second, capacity={"gnb_cpu": 12.0, "transport_bandwidth": 8.0})
    answers = PaperSolver(QUICK).solve(asked, {"m": cobb_douglas()}).slices
    assert [answer.status for answer in answers] == ["feasible", "infeasible"]
    assert "slice 1-000002 (priority 0) is degraded" in answers[1].reason


def test_what_cannot_be_met_gets_what_degrades_it_least(cobb_douglas, slice_problem, problem):
    answer = PaperSolver(QUICK).solve(problem(slice_problem(qos=80.0)), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "infeasible"
    assert answer.allocation == {"gnb_cpu": 100.0, "transport_bandwidth": 100.0}
    assert "best reachable degradation within its bounds" in answer.reason


def test_a_model_that_predicts_nan_is_infeasible(cobb_douglas, slice_problem, problem):
    answer = PaperSolver(QUICK).solve(problem(slice_problem()), {"m": Blind(cobb_douglas())}).slices[0]
    assert (answer.status, answer.expected_degradation) == ("infeasible", 1.0)


def test_a_mixture_counts_with_its_expectation_and_deviation(cobb_douglas, slice_problem, problem):
    asked = problem(slice_problem())
    plain, mixed = (
        PaperSolver(QUICK).solve(asked, {"m": model}).slices[0]
        for model in (cobb_douglas(), Alike(cobb_douglas()))
    )
    assert mixed.cost == pytest.approx(plain.cost, rel=0.01)
    assert mixed.status == "feasible"


def test_without_time_the_answer_is_feasible_all_the_same(cobb_douglas, slice_problem, problem):
    settings = PaperSettings(outer_rounds=10**9, inner_steps=10**9, gap=1e-12, slope=1e-12)
    answer = PaperSolver(settings).solve(problem(slice_problem(), deadline_s=0.2), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "feasible"


def test_the_surrogate_falls_as_the_qos_improves_and_nears_the_indicator(cobb_douglas, slice_problem, problem):
    pool = Pool(problem(slice_problem(users=(1.0, 4.0))), {"m": cobb_douglas()})
    estimator = Estimator(model_batches(pool)[0], slots=4096, sharpness=1000.0, seed=0, scalar=None)
    points = torch.linspace(0.0, 1.0, 30, dtype=torch.float64).view(1, -1, 1).expand(1, -1, 2)
    surrogate, strict = estimator.surrogate(points), estimator.strict(points)
    assert bool((surrogate.diff(dim=1) <= 0.0).all())
    assert float((surrogate - strict.sampled).abs().max()) < 0.005
    assert float((strict.sampled - strict.judged).abs().max()) < 0.005


def test_settings_are_one_whatever_the_units(cobb_douglas, slice_problem, problem):
    small = slice_problem()
    scaled = slice_problem(bounds={"gnb_cpu": (500.0, 100_000.0), "transport_bandwidth": (0.5, 100.0)})
    costs = [
        PaperSolver(QUICK).solve(problem(one, weights=weights), {"m": model}).slices[0].cost
        for one, weights, model in (
            (small, {"gnb_cpu": 1.0, "transport_bandwidth": 2.0}, cobb_douglas()),
            (scaled, {"gnb_cpu": 1e-3, "transport_bandwidth": 2.0}, cobb_douglas(gain=1000.0**-0.5)),
        )
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)
