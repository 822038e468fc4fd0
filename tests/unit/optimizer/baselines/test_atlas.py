import msgspec
import pyro
import pytest
import torch

from microopt_optimizer.baselines.atlas import AtlasPlusSolver, AtlasSettings, AtlasSolver
from microopt_optimizer.baselines.atlas_network import BayesianNetwork, NetworkSettings
from microopt_optimizer.slice_model.distribution import QosDistribution
from microopt_optimizer.solver.base import Clock

PRICES = {"gnb_cpu": 1.0, "transport_bandwidth": 2.0}
NARROW = {"gnb_cpu": (0.5, 30.0), "transport_bandwidth": (0.5, 30.0)}
QUICK = AtlasSettings(
    network=NetworkSettings(width=16, learning_rate=0.02),
    pretraining=60,
    first_steps=100,
    rounds=8,
    steps=10,
    candidates=500,
)


class Blind:
    """A model that predicts NaN."""

    def __init__(self, model):
        self.header, self.digest = model.header, "blind"

    def __call__(self, users, resources):
        nothing = ((users + resources[..., 0]) * torch.nan).unsqueeze(-1)
        return QosDistribution(nothing, nothing, nothing)


def exact(model, users):
    return sum(PRICES[name] * value for name, value in model.cheapest(users, 3.0, PRICES).items())


def test_the_known_optimum_is_neared_from_the_feasible_side(cobb_douglas, slice_problem, problem):
    asked = problem(slice_problem(bounds=NARROW))
    answer = AtlasSolver(QUICK).solve(asked, {"m": cobb_douglas()}).slices[0]
    assert answer.status == "feasible"
    assert answer.expected_degradation <= 0.1
    assert exact(cobb_douglas(), 2.0) - 1e-6 <= answer.cost <= exact(cobb_douglas(), 2.0) * 1.1


def test_rounds_of_thompson_sampling_improve_on_the_points_of_pretraining(cobb_douglas, slice_problem, problem):
    deadline_passed = msgspec.structs.replace(problem(slice_problem()), deadline_s=0.001)
    first = AtlasSolver(QUICK).solve(deadline_passed, {"m": cobb_douglas()}).slices[0]
    last = AtlasSolver(QUICK).solve(problem(slice_problem()), {"m": cobb_douglas()}).slices[0]
    assert (first.status, last.status) == ("feasible", "feasible")
    assert last.cost < 0.9 * first.cost


def test_the_peak_is_what_has_weight_and_plus_knows_the_distribution(cobb_douglas, slice_problem, problem):
    one = slice_problem(users=(1.0, 4.0, 9.0), weights=(0.9, 0.1, 0.0))
    peak, plus = (
        solver(QUICK).solve(problem(one), {"m": cobb_douglas()}).slices[0]
        for solver in (AtlasSolver, AtlasPlusSolver)
    )
    assert (peak.status, plus.status) == ("feasible", "feasible")
    assert exact(cobb_douglas(), 4.0) - 1e-6 <= peak.cost <= exact(cobb_douglas(), 4.0) * 1.15
    assert plus.cost < peak.cost
    assert plus.expected_degradation > peak.expected_degradation


def test_with_one_atom_both_are_the_same(cobb_douglas, slice_problem, problem):
    peak, plus = (
        solver(QUICK).solve(problem(slice_problem()), {"m": cobb_douglas()}).slices
        for solver in (AtlasSolver, AtlasPlusSolver)
    )
    assert peak == plus


def test_an_answer_is_repeatable_and_leaves_global_state_alone(cobb_douglas, slice_problem, problem):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with pyro.get_param_store().scope():
        pyro.param("mine", torch.ones(1))
        first = AtlasSolver(QUICK).solve(problem(slice_problem()), {"m": cobb_douglas()}).slices
        assert list(pyro.get_param_store().keys()) == ["mine"]
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(6)
    assert AtlasSolver(QUICK).solve(problem(slice_problem()), {"m": cobb_douglas()}).slices == first


@pytest.mark.parametrize("penalty", [0.0, 8.0])
def test_the_plain_lagrangian_works_as_well(cobb_douglas, slice_problem, problem, penalty):
    settings = msgspec.structs.replace(QUICK, penalty=penalty)
    answer = AtlasSolver(settings).solve(problem(slice_problem()), {"m": cobb_douglas()}).slices[0]
    assert (answer.status, answer.reason) == ("feasible", "")


def test_what_cannot_be_met_gets_what_degrades_it_least(cobb_douglas, slice_problem, problem):
    answer = AtlasSolver(QUICK).solve(problem(slice_problem(qos=80.0)), {"m": cobb_douglas()}).slices[0]
    assert answer.status == "infeasible"
    assert answer.allocation == {"gnb_cpu": 100.0, "transport_bandwidth": 100.0}
    assert "allocations tried keeps it within degradation 0.1" in answer.reason


def test_a_model_that_predicts_nan_is_infeasible(cobb_douglas, slice_problem, problem):
    answer = AtlasSolver(QUICK).solve(problem(slice_problem()), {"m": Blind(cobb_douglas())}).slices[0]
    assert (answer.status, answer.expected_degradation) == ("infeasible", 1.0)


def test_a_slice_without_traffic_keeps_its_floors(cobb_douglas, slice_problem, problem):
    answer = AtlasSolver(QUICK).solve(problem(slice_problem(users=(0.0,))), {"m": cobb_douglas()}).slices[0]
    assert answer.allocation == {"gnb_cpu": 0.5, "transport_bandwidth": 0.5}


@pytest.mark.parametrize("posterior", ["diagonal", "low_rank"])
def test_a_network_learns_its_examples_and_is_less_sure_elsewhere(posterior):
    settings = NetworkSettings(
        posterior=posterior, width=8, depth=1, noise=0.1, learning_rate=0.05, first_std=0.05
    )
    known = torch.linspace(0.0, 0.4, 40).view(-1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BayesianNetwork(1, settings)
        network.learn(known, 5.0 * known.squeeze(1), 200, Clock(60.0))
        drawn = network.values(network.draw(64), torch.tensor([[0.1], [0.3], [1.0]]))
    inside = drawn[:, 1] - drawn[:, 0]
    assert 0.5 < float(inside.mean()) < 1.5
    assert float(drawn[:, :2].std(0).max()) < float(drawn[:, 2].std())
