import math
import statistics

import numpy as np
import pytest
import torch

from microopt.errors import ConfigError, InvalidMessageError, ModelError
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.solver.answers import listed
from microopt_optimizer.solver.choice import undominated
from microopt_optimizer.solver.microopt import MicroOptSolver
from microopt_optimizer.solver.registry import SOLVERS, create
from microopt_optimizer.solver.shortage import proportional

SOLVER = MicroOptSolver()
QUANTILE = statistics.NormalDist().inv_cdf(0.9)
ETA = {"gnb_cpu": 1.0, "transport_bandwidth": 2.0}


def recomputed(model, slice_problem, allocation):
    names = model.header.resource_names
    return float(
        expected_degradation(
            model,
            torch.tensor(slice_problem.traffic.users, dtype=torch.float64),
            torch.tensor(slice_problem.traffic.weights, dtype=torch.float64),
            torch.tensor([allocation[name] for name in names], dtype=torch.float64),
            torch.tensor(slice_problem.sla.qos_threshold, dtype=torch.float64),
            slice_problem.sla.higher_is_better,
        )
    )


def grid_optimum(model, slice_problem, points=201):
    names = model.header.resource_names
    axes = [
        torch.linspace(slice_problem.bounds[n].floor, slice_problem.bounds[n].ceiling, points, dtype=torch.float64)
        for n in names
    ]
    grid = torch.cartesian_prod(*axes)
    degradation = expected_degradation(
        model,
        torch.tensor([slice_problem.traffic.users], dtype=torch.float64),
        torch.tensor([slice_problem.traffic.weights], dtype=torch.float64),
        grid,
        torch.tensor([slice_problem.sla.qos_threshold], dtype=torch.float64),
    )
    cost = grid @ torch.tensor([ETA[name] for name in names], dtype=torch.float64)
    feasible = degradation <= slice_problem.sla.degradation_threshold
    return float(cost[feasible].min()) if bool(feasible.any()) else math.inf


@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("users", [1.0, 4.0])
def test_the_optimum_in_closed_form_is_found(cobb_douglas, slice_problem, problem, exponent, users):
    model = cobb_douglas({"gnb_cpu": exponent, "transport_bandwidth": 1.0 - exponent})
    solution = SOLVER.solve(problem(slice_problem(users=(users,))), {"m": model})
    exact = model.cheapest(users, 3.0, ETA)
    (answer,) = solution.slices
    assert answer.status == "optimal"
    assert answer.allocation == pytest.approx(
        exact, abs=0.3
    )  # 0.3 % of the bounds: the optimum is flat along the edge
    assert answer.cost == pytest.approx(sum(ETA[name] * exact[name] for name in exact), rel=5e-4)
    assert answer.expected_degradation <= 0.1
    assert answer.reason == ""


@pytest.mark.parametrize("ceiling", [30.0, 100.0, 1e3, 1e4])
@pytest.mark.parametrize("before", [None, 0.7, 1.5])
def test_ceilings_far_above_what_is_needed_hide_no_optimum(cobb_douglas, slice_problem, problem, ceiling, before):
    for exponents in ((0.8, 0.3), (0.2, 0.7), (0.5, 0.7)):
        model = cobb_douglas(dict(zip(ETA, exponents, strict=True)))
        exact = model.cheapest(2.0, 3.0, ETA)
        current = (
            {} if before is None else {n: max(0.5, v) for n, v in model.cheapest(2.0 * before, 3.0, ETA).items()}
        )
        one = slice_problem(bounds={name: (0.5, ceiling) for name in ETA}, current=current)
        answer = SOLVER.solve(problem(one), {"m": model}).slices[0]
        assert answer.cost == pytest.approx(sum(ETA[name] * exact[name] for name in exact), rel=1e-5)
        assert answer.status == "optimal"


def test_the_degradation_price_is_the_slope_of_the_least_cost(cobb_douglas, slice_problem, problem):
    answer = SOLVER.solve(problem(slice_problem()), {"m": cobb_douglas()}).slices[0]
    # The cost is proportional to q_thresh + z std, with z the quantile of 1 - beta.
    quantiles = [statistics.NormalDist().inv_cdf(1.0 - beta) for beta in (0.1 - 1e-4, 0.1 + 1e-4)]
    slope = answer.cost * 0.5 * (quantiles[0] - quantiles[1]) / 2e-4 / (3.0 + 0.5 * QUANTILE)
    assert answer.degradation_price == pytest.approx(slope, rel=0.01)


def test_a_qos_where_lower_is_better_is_held_from_below(cobb_douglas, slice_problem, problem):
    model = cobb_douglas(gain=0.05, higher_is_better=False)
    one = slice_problem(users=(2.0,), qos=3.0, higher_is_better=False)
    answer = SOLVER.solve(problem(one), {"m": model}).slices[0]
    exact = model.cheapest(2.0, 3.0, ETA)
    assert answer.cost == pytest.approx(sum(ETA[name] * exact[name] for name in exact), rel=1e-3)


def test_three_resources_are_balanced(cobb_douglas, slice_problem, problem):
    eta = {**ETA, "upf_cpu": 0.5}
    model = cobb_douglas({"upf_cpu": 0.2, "gnb_cpu": 0.5, "transport_bandwidth": 0.3})
    one = slice_problem(bounds={name: (0.5, 100.0) for name in eta})
    answer = SOLVER.solve(problem(one, weights=eta), {"m": model}).slices[0]
    exact = model.cheapest(2.0, 3.0, eta)
    assert answer.cost == pytest.approx(sum(eta[name] * exact[name] for name in exact), rel=1e-3)
    assert list(answer.allocation) == list(one.bounds)


@pytest.mark.parametrize("seed", range(10))
def test_no_dense_grid_finds_anything_cheaper(slice_problem, problem, seed, random_network):
    model = random_network(seed)
    rng = np.random.default_rng(seed)
    users = tuple(rng.uniform(0.0, 10.0, 5).tolist())
    one = slice_problem(users=users, qos=rng.uniform(3.0, 5.0), beta=rng.uniform(0.1, 0.6))
    answer = SOLVER.solve(problem(one), {"m": model}).slices[0]
    best = grid_optimum(model, one)
    assert (answer.status == "infeasible") == math.isinf(best)
    if answer.status != "infeasible":
        assert answer.cost <= best * (1.0 + 1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_not_infeasible_holds_its_sla_within_bounds_and_capacities(
    slice_problem, problem, seed, random_network
):
    rng = np.random.default_rng(seed)
    models = {"m": random_network(seed), "other": random_network(seed + 100)}
    slices = [
        slice_problem(
            number,
            users=tuple(rng.uniform(0.0, 10.0, int(rng.integers(1, 6))).tolist()),
            qos=rng.uniform(2.0, 6.0),
            beta=rng.uniform(0.05, 0.6),
            model=("m", "other")[number % 2],
            priority=int(rng.integers(0, 2)),
        )
        for number in range(4)
    ]
    capacity = {name: float(rng.uniform(5.0, 250.0)) for name in ETA}
    solution = SOLVER.solve(problem(*slices, capacity=capacity, deadline_s=1.0), models)
    assert [answer.slice for answer in solution.slices] == [one.slice for one in slices]
    for one, answer in zip(slices, solution.slices, strict=True):
        for name, value in answer.allocation.items():
            assert one.bounds[name].floor <= value <= one.bounds[name].ceiling
        held = recomputed(models[one.model], one, answer.allocation) <= one.sla.degradation_threshold
        assert held == (answer.status != "infeasible")
        assert answer.reason or held
    for name, value in capacity.items():
        assert math.fsum(answer.allocation[name] for answer in solution.slices) <= value * (1 + 1e-12)


def test_the_same_problem_has_the_same_answer(slice_problem, problem, random_network):
    asked = problem(slice_problem(users=(1.0, 4.0, 7.0), beta=0.5))
    models = {"m": random_network(3)}
    assert SOLVER.solve(asked, models).slices == SOLVER.solve(asked, models).slices


def test_an_answer_does_not_depend_on_the_other_slices_of_the_batch(cobb_douglas, slice_problem, problem):
    models = {"m": cobb_douglas()}
    first, second = slice_problem(1, users=(2.0, 3.0)), slice_problem(2, users=(1.0, 2.0, 5.0, 6.0))
    together = SOLVER.solve(problem(first, second), models)
    alone = [SOLVER.solve(problem(one), models).slices[0] for one in (first, second)]
    assert [one.cost for one in together.slices] == pytest.approx([one.cost for one in alone], rel=1e-4)


def test_infeasible_is_declared_with_slice_degradation_and_threshold(cobb_douglas, slice_problem, problem):
    one = slice_problem(users=(50.0,), qos=3.0)
    answer = SOLVER.solve(problem(one), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "infeasible"
    assert answer.allocation == pytest.approx({"gnb_cpu": 100.0, "transport_bandwidth": 100.0})
    assert answer.degradation_price is None
    least = f"{recomputed(cobb_douglas(), one, answer.allocation):.4g}"
    assert "1-000001" in answer.reason
    assert least in answer.reason
    assert "threshold 0.1" in answer.reason


def test_nothing_is_spent_where_more_changes_nothing(slice_problem, problem, cobb_douglas):
    one = slice_problem(users=(50.0,), qos=1000.0)
    answer = SOLVER.solve(problem(one), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "infeasible"
    assert answer.allocation == pytest.approx({"gnb_cpu": 0.5, "transport_bandwidth": 0.5})


def test_a_slice_without_users_gets_its_floors(cobb_douglas, slice_problem, problem):
    answer = SOLVER.solve(problem(slice_problem(users=(0.0, 0.0))), {"m": cobb_douglas()}).slices[0]
    assert answer.allocation == {"gnb_cpu": 0.5, "transport_bandwidth": 0.5}
    assert (answer.status, answer.expected_degradation, answer.degradation_price) == ("optimal", 0.0, 0.0)


def test_floors_that_suffice_are_the_answer_and_have_no_price(cobb_douglas, slice_problem, problem):
    bounds = {"gnb_cpu": (50.0, 100.0), "transport_bandwidth": (50.0, 100.0)}
    answer = SOLVER.solve(problem(slice_problem(bounds=bounds)), {"m": cobb_douglas()}).slices[0]
    assert answer.allocation == {"gnb_cpu": 50.0, "transport_bandwidth": 50.0}
    assert (answer.status, answer.degradation_price) == ("optimal", 0.0)


def test_a_resource_whose_bounds_are_equal_stays(cobb_douglas, slice_problem, problem):
    bounds = {"gnb_cpu": (4.0, 4.0), "transport_bandwidth": (0.5, 100.0)}
    answer = SOLVER.solve(problem(slice_problem(bounds=bounds)), {"m": cobb_douglas()}).slices[0]
    needed = cobb_douglas().needed(2.0, 3.0)
    assert answer.allocation == pytest.approx({"gnb_cpu": 4.0, "transport_bandwidth": needed**2 / 4.0}, rel=1e-4)
    assert answer.status == "optimal"


def test_out_of_time_is_feasible_and_not_optimal(cobb_douglas, slice_problem, problem):
    one = slice_problem()
    answer = SOLVER.solve(problem(one, deadline_s=1e-9), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "feasible"
    assert recomputed(cobb_douglas(), one, answer.allocation) <= 0.1


def test_a_model_that_says_nothing_is_not_taken_for_a_good_one(cobb_douglas, slice_problem, problem):
    class Silent(cobb_douglas):
        def __call__(self, users, resources):
            qos = super().__call__(users, resources)
            unknown = (resources[..., 0] < 20.0).unsqueeze(-1)
            return qos._replace(mean=torch.where(unknown, torch.nan, qos.mean))

    answer = SOLVER.solve(problem(slice_problem()), {"m": Silent()}).slices[0]
    assert answer.status in ("optimal", "feasible")
    assert answer.allocation["gnb_cpu"] >= 20.0


def exact_split(models, users, capacity):
    """Return the least cost of two slices that share the capacity of gnb_cpu, by scanning how they share it."""
    share = np.linspace(0.001, 0.999, 200_001) * capacity
    total = capacity * ETA["gnb_cpu"] * np.ones_like(share)
    for model, x, cpu in zip(models, users, (share, capacity - share), strict=True):
        a, b = model.exponents["gnb_cpu"], model.exponents["transport_bandwidth"]
        total = total + ETA["transport_bandwidth"] * (model.needed(x, 3.0) / cpu**a) ** (1.0 / b)
    return float(total.min())


def test_two_slices_share_a_capacity_at_one_price(cobb_douglas, slice_problem, problem):
    models = {"m": cobb_douglas(), "n": cobb_douglas({"gnb_cpu": 0.7, "transport_bandwidth": 0.3})}
    users = (2.0, 4.0)
    slices = [slice_problem(1, users=(2.0,)), slice_problem(2, users=(4.0,), model="n")]
    alone = SOLVER.solve(problem(*slices), models)
    asked = sum(answer.allocation["gnb_cpu"] for answer in alone.slices)
    capacity = 0.7 * asked
    solution = SOLVER.solve(problem(*slices, capacity={"gnb_cpu": capacity}), models)
    cost = sum(answer.cost for answer in solution.slices)
    exact = exact_split(list(models.values()), users, capacity)
    slope = exact_split(list(models.values()), users, 0.999 * capacity) - exact
    assert alone.capacity_prices == {"gnb_cpu": 0.0, "transport_bandwidth": 0.0}
    assert cost == pytest.approx(exact, rel=1e-3)
    assert cost >= exact * (1.0 - 1e-6)
    assert [answer.status for answer in solution.slices] == ["optimal", "optimal"]
    assert solution.capacity_prices["gnb_cpu"] == pytest.approx(slope / (0.001 * capacity), rel=0.05)
    assert solution.capacity_prices["transport_bandwidth"] == 0.0


def test_the_lower_priority_is_shorted_and_the_price_says_that_none_clears(cobb_douglas, slice_problem, problem):
    slices = [slice_problem(1, users=(4.0,)), slice_problem(2, users=(4.0,), priority=1)]
    models = {"m": cobb_douglas()}
    full = SOLVER.solve(problem(slices[1]), models).slices[0].allocation
    capacity = {name: 1.2 * value for name, value in full.items()}
    solution = SOLVER.solve(problem(*slices, capacity=capacity), models)
    low, high = solution.slices
    assert (low.status, high.status) == ("infeasible", "feasible")
    assert high.allocation == pytest.approx(full, rel=1e-4)
    assert "priority 0" in low.reason
    assert "pool edge" in low.reason
    assert max(solution.capacity_prices.values()) > 100.0
    for name, value in capacity.items():
        assert low.allocation[name] + high.allocation[name] <= value


def test_equals_are_shorted_in_the_same_proportion(cobb_douglas, slice_problem, problem):
    slices = [slice_problem(1, users=(2.0,)), slice_problem(2, users=(4.0,))]
    models = {"m": cobb_douglas()}
    own = [answer.allocation for answer in SOLVER.solve(problem(*slices), models).slices]
    capacity = {name: 0.6 * (own[0][name] + own[1][name]) for name in ETA}
    solution = SOLVER.solve(problem(*slices, capacity=capacity), models)
    assert [answer.status for answer in solution.slices] == ["infeasible", "infeasible"]
    for name in ETA:
        shares = [
            (got.allocation[name] - 0.5) / (asked[name] - 0.5)
            for got, asked in zip(solution.slices, own, strict=True)
        ]
        assert shares[0] == pytest.approx(shares[1])


def test_a_slice_that_nothing_can_help_takes_nothing_from_the_others(cobb_douglas, slice_problem, problem):
    hopeless, fine = slice_problem(1, users=(50.0,), priority=5), slice_problem(2)
    capacity = {name: 60.0 for name in ETA}
    solution = SOLVER.solve(problem(hopeless, fine, capacity=capacity), {"m": cobb_douglas()})
    assert solution.slices[0].status == "infeasible"
    assert solution.slices[1].status != "infeasible"
    for name in ETA:
        assert sum(answer.allocation[name] for answer in solution.slices) <= 60.0


def test_floors_are_cut_in_proportion_only_when_they_do_not_fit():
    wanted = torch.tensor([[4.0], [8.0]], dtype=torch.float64)
    floors = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    assert proportional(wanted, floors, torch.tensor([8.0])).flatten().tolist() == pytest.approx([2.5, 5.5])
    assert proportional(wanted, floors, torch.tensor([2.0])).flatten().tolist() == pytest.approx([0.5, 1.5])
    assert proportional(wanted, floors, torch.tensor([-1.0])).flatten().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("resources", [1, 2, 3])
def test_only_undominated_allocations_are_exchanged(resources):
    usage = torch.tensor(np.random.default_rng(0).uniform(size=(60, resources)))
    kept = {tuple(row) for row in undominated(usage).tolist()}
    for row in usage.tolist():
        dominated = any(
            other != row and all(o <= r for o, r in zip(other, row, strict=True)) for other in usage.tolist()
        )
        assert (tuple(row) in kept) == (not dominated)


def test_a_model_of_other_resources_is_refused(cobb_douglas, slice_problem, problem):
    model = cobb_douglas({"gnb_cpu": 0.5, "upf_cpu": 0.5})
    message = r"trained for resources \['gnb_cpu', 'upf_cpu'\], slice 1-000001 needs \['gnb_cpu', 'transport"
    with pytest.raises(ModelError, match=message):
        SOLVER.solve(problem(slice_problem()), {"m": model})


def test_a_model_of_the_opposite_qos_is_refused(cobb_douglas, slice_problem, problem):
    with pytest.raises(ModelError, match="lower is better"):
        SOLVER.solve(problem(slice_problem()), {"m": cobb_douglas(higher_is_better=False)})


def test_a_missing_model_is_named(cobb_douglas, slice_problem, problem):
    with pytest.raises(ModelError, match=r"slice 1-000001: model m is not loaded; loaded are \['n'\]"):
        SOLVER.solve(problem(slice_problem()), {"n": cobb_douglas()})


def test_bounds_for_what_the_pool_lacks_are_refused(cobb_douglas, slice_problem, problem):
    with pytest.raises(InvalidMessageError, match="pool edge"):
        SOLVER.solve(problem(slice_problem(), weights={"gnb_cpu": 1.0}), {"m": cobb_douglas()})


def test_extrapolation_is_said(slice_problem, problem, random_network):
    one = slice_problem(users=(20.0,), beta=0.9)
    answer = SOLVER.solve(problem(one), {"m": random_network(0)}).slices[0]
    assert "model m extrapolates: users 20 (trained 0 to 10)" in answer.reason


def test_bounds_beyond_what_the_model_saw_are_said(slice_problem, problem, random_network):
    bounds = {"gnb_cpu": (0.0, 120.0), "transport_bandwidth": (0.0, 100.0)}
    one = slice_problem(users=(2.0,), beta=0.9, bounds=bounds)
    answer = SOLVER.solve(problem(one), {"m": random_network(0)}).slices[0]
    beyond = "bounds reach beyond what model m was trained for: gnb_cpu 0 to 120 (trained 0 to 100)"
    assert answer.reason == beyond


def test_nothing_is_said_of_a_model_that_was_not_asked(slice_problem, problem, random_network):
    bounds = {"gnb_cpu": (0.0, 120.0), "transport_bandwidth": (0.0, 100.0)}
    one = slice_problem(users=(0.0,), bounds=bounds)
    assert SOLVER.solve(problem(one), {"m": random_network(0)}).slices[0].reason == ""


def test_a_long_list_of_remarks_is_cut_with_their_number():
    assert listed("ab") == "a, b"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"


def test_solvers_are_made_by_name():
    assert {create(name).name for name in SOLVERS} == set(SOLVERS) >= {"microopt", "peak"}
    with pytest.raises(ConfigError, match=r"'atlas-x' is not known here; choose one of \['"):
        create("atlas-x")
