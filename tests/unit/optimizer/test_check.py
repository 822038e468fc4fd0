"""What the slice models say of allocations: exactly E(β), and only where they can."""

import pytest
import torch
from msgspec.structs import replace

from microopt.messages import Check
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import Range, TrainedModel
from microopt_optimizer.worker.check import checks, within

HERE = {"gnb_cpu": 30.0, "transport_bandwidth": 20.0}


@pytest.fixture
def model(random_network):
    return random_network(3)


@pytest.fixture
def ask(problem, model):
    """Check allocations of slices, the same for all if only one is given."""

    def run(*slices, models=None, broken=None, allocations=None, **allocation):
        allocations = allocations or {s.slice: allocation or HERE for s in slices}
        return checks(
            Check(problem=problem(*slices), allocations=allocations), models or {"m": model}, broken or {}
        )

    return run


def by_hand(model, item, allocation):
    """Return Σ w x P(miss | x, r) / Σ w x, one atom after the other."""
    total = missed = 0.0
    resources = torch.tensor([allocation[n] for n in model.header.resource_names], dtype=torch.float64)
    for users, weight in zip(item.traffic.users, item.traffic.weights, strict=True):
        qos = model(torch.tensor(users, dtype=torch.float64), resources)
        normal = torch.distributions.Normal(qos.mean, qos.std)
        below = float((qos.weight * normal.cdf(torch.tensor(item.sla.qos_threshold))).sum())
        total += users * weight
        missed += users * weight * below
    return missed / total


def test_what_is_said_is_the_expected_degradation_at_exactly_the_allocation(ask, slice_problem, model):
    slices = [
        slice_problem(1, users=(2.0, 5.0), weights=(0.25, 0.75), qos=3.0),
        slice_problem(2, users=(1.0,), qos=9.0),
    ]
    allocations = {"1-000001": HERE, "1-000002": {"gnb_cpu": 77.0, "transport_bandwidth": 3.5}}
    said = ask(*slices, allocations=allocations)
    for item, one in zip(slices, said, strict=True):
        assert one.slice == item.slice
        assert one.expected_degradation == pytest.approx(by_hand(model, item, allocations[item.slice]), abs=1e-12)
        assert 0.0 < one.expected_degradation < 1.0
        assert (one.outside, one.error) == ("", "")


def test_an_allocation_outside_of_the_slices_bounds_is_told_of_as_it_is(ask, slice_problem, model):
    item = slice_problem(bounds={"gnb_cpu": (0.5, 1.0), "transport_bandwidth": (0.5, 1.0)})
    assert ask(item)[0].expected_degradation == pytest.approx(by_hand(model, item, HERE), abs=1e-12)


def test_a_thousand_slices_of_several_models_each_get_their_own_models_word(ask, slice_problem, random_network):
    models = {f"m{n}": random_network(n, resources=2) for n in range(3)}
    slices = [
        slice_problem(
            n, users=tuple(1.0 + (n + j) % 7 for j in range(1 + n % 40)), qos=1.0 + n % 9, model=f"m{n % 3}"
        )
        for n in range(1, 1001)
    ]
    allocations = {
        s.slice: {"gnb_cpu": 1.0 + n % 90, "transport_bandwidth": 99.0 - n % 60} for n, s in enumerate(slices)
    }
    said = ask(*slices, models=models, allocations=allocations)
    assert [one.slice for one in said] == list(allocations)
    for item, one in list(zip(slices, said, strict=True))[::37]:
        truth = by_hand(models[item.model], item, allocations[item.slice])
        assert one.expected_degradation == pytest.approx(truth, abs=1e-12)


def test_where_low_values_are_better_it_is_the_high_ones_that_miss(problem, slice_problem, model):
    inverse = TrainedModel(model.network, replace(model.header, higher_is_better=False), "inverse")
    item = slice_problem(higher_is_better=False)
    said = checks(Check(problem=problem(item), allocations={item.slice: HERE}), {"m": inverse}, {})
    assert said[0].expected_degradation == pytest.approx(1.0 - by_hand(model, item, HERE), abs=1e-12)


@pytest.mark.parametrize(
    ("users", "weights", "allocation", "outside"),
    [
        ((2.0, 11.0), (0.5, 0.5), HERE, "users 11 (trained 0 to 10)"),
        ((2.0,), (1.0,), {**HERE, "gnb_cpu": 101.0}, "gnb_cpu 101 (trained 0 to 100)"),
        ((2.0, 11.0), (1.0 - 1e-7, 1e-7), HERE, ""),
        ((2.0,), (1.0,), {**HERE, "gnb_cpu": 100.0 * (1.0 + 1e-9)}, ""),
        (
            (12.0,),
            (1.0,),
            {"gnb_cpu": 200.0, "transport_bandwidth": 300.0},
            "users 12 (trained 0 to 10), gnb_cpu 200 (trained 0 to 100), "
            "transport_bandwidth 300 (trained 0 to 100)",
        ),
    ],
)
def test_inputs_outside_of_the_trained_range_are_named_with_the_range(
    ask, slice_problem, users, weights, allocation, outside
):
    said = ask(slice_problem(users=users, weights=weights), **allocation)[0]
    assert said.outside == outside
    assert said.expected_degradation is not None


def test_users_that_are_none_are_not_held_to_the_trained_range(problem, slice_problem, model):
    trained = TrainedModel(model.network, replace(model.header, users=Range(1.0, 10.0)), "from-one")
    asked = Check(problem=problem(slice_problem(users=(0.0, 2.0))), allocations={"1-000001": HERE})
    assert checks(asked, {"m": trained}, {})[0].outside == ""


def test_a_slice_without_traffic_is_not_degraded_whatever_it_has(ask, slice_problem):
    said = ask(slice_problem(users=(0.0,)), gnb_cpu=1e9, transport_bandwidth=0.0)[0]
    assert (said.expected_degradation, said.outside, said.error) == (0.0, "", "")


@pytest.mark.parametrize(
    ("allocation", "error"),
    [
        ({"gnb_cpu": 30.0}, "the allocation lacks transport_bandwidth, which model m takes"),
        ({**HERE, "upf_cpu": 1.0}, "the allocation names upf_cpu, which model m does not take"),
        ({**HERE, "gnb_cpu": float("nan")}, "the allocation is not a number for gnb_cpu"),
        ({**HERE, "gnb_cpu": float("inf")}, "the allocation is not a number for gnb_cpu"),
    ],
)
def test_an_allocation_that_cannot_be_judged_is_an_error_of_its_slice_alone(ask, slice_problem, allocation, error):
    one, two = ask(slice_problem(1), slice_problem(2), allocations={"1-000001": allocation, "1-000002": HERE})
    assert one.error == error
    assert one.expected_degradation is None
    assert two.error == ""
    assert two.expected_degradation is not None


def test_a_slice_that_is_not_in_the_problem_or_whose_model_is_broken_is_told_so(ask, slice_problem):
    said = ask(
        slice_problem(1),
        slice_problem(2),
        slice_problem(3, model="other"),
        broken={"1-000002": "model m: cut off"},
        allocations={"1-000001": HERE, "1-000002": HERE, "1-000003": HERE, "2": HERE},
    )
    assert [one.error for one in said] == [
        "",
        "model m: cut off",
        "model other is not loaded",
        "slice 2 is not in the problem",
    ]


def test_what_no_one_asked_about_is_not_told(ask, slice_problem):
    said = ask(slice_problem(1), slice_problem(2), allocations={"1-000002": HERE})
    assert [one.slice for one in said] == ["1-000002"]


def test_a_model_that_gives_no_number_is_an_error_and_not_a_degradation(ask, slice_problem, random_network):
    broken = random_network(1)
    broken.network.qos_scale.fill_(float("nan"))
    said = ask(slice_problem(), models={"m": broken})[0]
    assert said.error == "model m gives no number for this allocation"
    assert said.expected_degradation is None


def test_it_is_the_value_that_solvers_differentiate(slice_problem, model):
    item = slice_problem(users=(2.0, 4.0))
    resources = torch.tensor([30.0, 20.0], dtype=torch.float64)
    value = expected_degradation(
        model,
        torch.tensor(item.traffic.users),
        torch.tensor(item.traffic.weights),
        resources,
        item.sla.qos_threshold,
    )
    assert float(value) == pytest.approx(by_hand(model, item, HERE), abs=1e-7)


def test_rounding_is_within_and_more_is_not():
    trained = Range(5.0, 50.0)
    assert within(50.0 + 4e-5, trained)
    assert within(5.0 - 4e-5, trained)
    assert not within(50.001, trained)
    assert not within(4.999, trained)
