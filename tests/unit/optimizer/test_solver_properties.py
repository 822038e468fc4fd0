"""What must hold of every answer, whatever the problem."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from microopt.messages import Traffic
from microopt.specs import Bounds, ResourceSpec
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.slice_model.network import Architecture, SliceModel
from microopt_optimizer.solver.microopt import MicroOptSolver

NAMES, UNITS = ("gnb_cpu", "transport_bandwidth", "upf_cpu"), ("millicores", "Mbit/s", "millicores")
SOLVER = MicroOptSolver()


def network(seed, resources, *, scale=1.0, **shape):
    """A network as it is before training, of resources that are measured in units of `scale`."""
    torch.manual_seed(seed)
    model = SliceModel(Architecture(inputs=resources + 1, **shape))
    model.norm.running_mean.fill_(10.0)
    model.norm.running_var.fill_(30.0)
    if scale != 1.0:
        model.norm.running_mean[1:] *= scale
        model.norm.running_var[1:] = (model.norm.running_var[1:] + model.norm.eps) * scale**2 - model.norm.eps
    model.qos_offset.fill_(4.0)
    model.qos_scale.fill_(8.0)
    inputs = tuple(
        ResourceInput(name=name, unit=unit, trained=Range(0.0, 1e6))
        for name, unit in list(zip(NAMES, UNITS, strict=True))[:resources]
    )
    header = ModelHeader(
        architecture=model.architecture,
        resources=inputs,
        users=Range(0.0, 10.0),
        qos_metric="dl_thpt_per_ue",
        qos_unit="Mbit/s",
        higher_is_better=True,
    )
    return TrainedModel(model, header, f"random-{seed}")


@st.composite
def questions(draw, resources=2):
    count = draw(st.integers(1, 3))
    users = [draw(st.floats(0.5, 8.0)) for _ in range(count)]
    return {
        "seed": draw(st.integers(0, 50)),
        "users": tuple(users),
        "qos": draw(st.floats(2.0, 6.0)),
        "beta": draw(st.floats(0.02, 0.5)),
        "bounds": {name: (draw(st.floats(0.0, 5.0)), draw(st.floats(20.0, 60.0))) for name in NAMES[:resources]},
    }


def asked(slice_problem, question, number=1, model="m", **other):
    fields = {name: question[name] for name in ("users", "qos", "beta", "bounds")}
    return slice_problem(number, model=model, **{**fields, **other})


# The fixtures are factories: nothing of them lasts from one example to the next.
SOME = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SOME
@given(questions())
def test_what_is_not_infeasible_holds_its_sla(slice_problem, problem, question):
    model, one = network(question["seed"], 2), asked(slice_problem, question)
    (answer,) = SOLVER.solve(problem(one), {"m": model}).slices
    values = torch.tensor([answer.allocation[name] for name in NAMES[:2]], dtype=torch.float64)
    atoms = (torch.tensor(part, dtype=torch.float64) for part in (one.traffic.users, one.traffic.weights))
    degradation = float(expected_degradation(model, *atoms, values, one.sla.qos_threshold))
    assert answer.expected_degradation == pytest.approx(degradation, abs=1e-12)
    assert (answer.status == "infeasible") == (degradation > one.sla.degradation_threshold)
    for name, bound in one.bounds.items():
        assert bound.floor <= answer.allocation[name] <= bound.ceiling


@SOME
@given(questions(), st.permutations(range(4)))
def test_the_order_of_the_slices_does_not_matter(slice_problem, problem, question, order):
    models = {f"m{number}": network(question["seed"] + number, 2) for number in range(4)}
    slices = [asked(slice_problem, question, number + 1, f"m{number}") for number in range(4)]
    straight = SOLVER.solve(problem(*slices), models)
    mixed = SOLVER.solve(problem(*(slices[place] for place in order)), models)
    for place, answer in zip(order, mixed.slices, strict=True):
        assert answer.slice == straight.slices[place].slice
        assert answer.cost == pytest.approx(straight.slices[place].cost, rel=1e-6)


@SOME
@given(questions(), st.sampled_from([1e-3, 1e3]))
def test_units_do_not_matter(slice_problem, problem, question, scale):
    one, model = asked(slice_problem, question), network(question["seed"], 2)
    small = SOLVER.solve(problem(one), {"m": model}).slices[0]
    bounds = {name: Bounds(scale * each.floor, scale * each.ceiling) for name, each in one.bounds.items()}
    scaled = problem(replace(one, bounds=bounds))
    resources = {
        name: ResourceSpec(unit=each.unit, weight=each.weight / scale, capacity=each.capacity * scale)
        for name, each in scaled.resources.items()
    }
    scaled = replace(scaled, resources=resources)
    large = SOLVER.solve(scaled, {"m": network(question["seed"], 2, scale=scale)}).slices[0]
    assert large.status == small.status
    assert large.cost == pytest.approx(small.cost, rel=1e-3)


@SOME
@given(questions(), st.floats(0.3, 0.95))
def test_asking_less_never_costs_more(slice_problem, problem, question, factor):
    model = {"m": network(question["seed"], 2)}
    strict = SOLVER.solve(problem(asked(slice_problem, question)), model).slices[0]
    lower = asked(slice_problem, question, qos=factor * question["qos"])
    laxer = asked(slice_problem, question, beta=min(1.0, question["beta"] / factor))
    for easier in (lower, laxer):
        answer = SOLVER.solve(problem(easier), model).slices[0]
        if strict.status != "infeasible":
            assert answer.status != "infeasible"
            assert answer.cost <= strict.cost * (1.0 + 1e-3)


@SOME
@given(questions(resources=3), st.sampled_from(["relu", "mixed", "tanh"]), st.booleans())
def test_no_random_allocation_is_cheaper(slice_problem, problem, question, activation, monotone):
    shape = {"activation": activation, "components": 2, "monotone": "rising" if monotone else "no"}
    model, one = network(question["seed"], 3, **shape), asked(slice_problem, question)
    weights = {"gnb_cpu": 1.0, "transport_bandwidth": 2.0, "upf_cpu": 0.5}
    (answer,) = SOLVER.solve(problem(one, weights=weights), {"m": model}).slices
    generator = torch.Generator().manual_seed(question["seed"])
    floors = torch.tensor([one.bounds[name].floor for name in NAMES], dtype=torch.float64)
    ceilings = torch.tensor([one.bounds[name].ceiling for name in NAMES], dtype=torch.float64)
    points = floors + torch.rand(20_000, 3, generator=generator, dtype=torch.float64) * (ceilings - floors)
    traffic = Traffic(one.traffic.users, one.traffic.weights)
    atoms = (torch.tensor([part], dtype=torch.float64) for part in (traffic.users, traffic.weights))
    holds = expected_degradation(model, *atoms, points, one.sla.qos_threshold) <= one.sla.degradation_threshold
    cost = points @ torch.tensor([weights[name] for name in NAMES], dtype=torch.float64)
    best = float(torch.where(holds, cost, math.inf).min())
    if answer.status == "infeasible":
        assert best == math.inf
    else:
        assert answer.cost <= best * (1.0 + 5e-3)
