"""`microopt.check` on a real bus: what the slice models in the object store say of allocations."""

import asyncio
from datetime import UTC, datetime
from threading import Event as Gate

import pytest
import torch
from msgspec.structs import replace

from microopt import subjects
from microopt.errors import TemporaryError
from microopt.messages import Check, Checked, Interval, Problem, SliceProblem, Solution, Traffic
from microopt.settings import Settings
from microopt.specs import Bounds, Sla
from microopt.testing import eventually, running
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.distribution import expected_degradation
from microopt_optimizer.slice_model.model_file import ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.slice_model.network import Architecture, SliceModel
from microopt_optimizer.worker.agent import build

UNITS = {"transport_bandwidth": "Mbit/s", "gnb_cpu": "millicores"}
BOUNDS = {"transport_bandwidth": Bounds(5.0, 50.0), "gnb_cpu": Bounds(500.0, 4500.0)}
HERE = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}


@pytest.fixture
def model() -> TrainedModel:
    """A network with the weights that training begins with, whose E(β) is neither 0 nor 1."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = SliceModel(Architecture(inputs=3))
    network.norm.running_mean.copy_(torch.tensor([3.0, 25.0, 2500.0]))
    network.norm.running_var.copy_(torch.tensor([2.0, 150.0, 1e6]))
    network.qos_offset.fill_(4.0)
    network.qos_scale.fill_(8.0)
    header = ModelHeader(
        architecture=network.architecture,
        resources=tuple(ResourceInput(name=n, unit=u, trained=Range(0.0, 4500.0)) for n, u in UNITS.items()),
        users=Range(0.0, 10.0),
        qos_metric="dl_thpt_per_ue",
        qos_unit="Mbit/s",
        higher_is_better=True,
    )
    return TrainedModel(network, header, "embb")


@pytest.fixture
def make_problem(make_pool):
    def build(*slices: str, model="embb", qos=4.0, users=(3.0, 4.0)) -> Problem:
        return Problem(
            pool="edge",
            interval=Interval(datetime.now(UTC), 20.0),
            resources=make_pool().resources,
            slices=[
                SliceProblem(
                    slice=name,
                    sla=Sla(qos_threshold=qos + index % 3, degradation_threshold=0.1),
                    traffic=Traffic(users, tuple(1.0 / len(users) for _ in users)),
                    bounds=BOUNDS,
                    model=model,
                )
                for index, name in enumerate(slices)
            ],
        )

    return build


async def served(bus, problem) -> None:
    """Wait until a worker answers checks."""
    await eventually(lambda: _asks(bus, Check(problem=problem, allocations={})), what="a worker that checks")


async def _asks(bus, asked) -> bool:
    try:
        await bus.request(subjects.CHECK, asked, Checked, timeout_s=1.0)
    except TemporaryError:
        return False
    return True


async def test_a_thousand_slices_get_the_degradation_that_the_model_computes(bus, broker, make_problem, model):
    await model_store.publish(bus, "embb", model_file.to_bytes(model))
    names = [f"1-{n:06x}" for n in range(1, 1001)]
    problem = make_problem(*names)
    asked = {n: {"transport_bandwidth": 5.0 + i % 45, "gnb_cpu": 500.0 + 3.0 * i} for i, n in enumerate(names)}
    async with running(build(Settings({}, "test")), broker.url):
        await served(bus, problem)
        answer = await bus.request(
            subjects.CHECK, Check(problem=problem, allocations=asked), Checked, timeout_s=20.0
        )
    assert [one.slice for one in answer.slices] == names
    assert {(one.error, one.outside) for one in answer.slices} == {("", "")}
    loaded = model_file.load(model_file.to_bytes(model))
    truth = expected_degradation(
        loaded,
        torch.tensor([3.0, 4.0], dtype=torch.float64),
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        torch.tensor([list(a.values()) for a in asked.values()], dtype=torch.float64),
        torch.tensor([4.0 + i % 3 for i in range(1000)], dtype=torch.float64),
    )
    said = torch.tensor([one.expected_degradation for one in answer.slices], dtype=torch.float64)
    assert torch.allclose(said, truth, rtol=0.0, atol=1e-12)
    assert float(truth.max() - truth.min()) > 0.01


async def test_each_slice_has_its_own_error_and_the_others_their_answer(bus, broker, make_problem, model):
    await model_store.publish(bus, "embb", model_file.to_bytes(model))
    metric = replace(model.header, qos_metric="dl_latency", qos_unit="ms", higher_is_better=False)
    await model_store.publish(bus, "latency", model_file.to_bytes(TrainedModel(model.network, metric, "latency")))
    problem = make_problem("1", "2", "3", "4")
    models = {"2": "none", "3": "latency"}
    slices = [replace(s, model=models.get(s.slice, "embb")) for s in problem.slices]
    problem = replace(problem, slices=slices)
    asked = {"1": HERE, "2": HERE, "3": HERE, "4": {"gnb_cpu": 2000.0}, "9": HERE}
    async with running(build(Settings({}, "test")), broker.url):
        await served(bus, problem)
        answer = await bus.request(
            subjects.CHECK, Check(problem=problem, allocations=asked), Checked, timeout_s=5.0
        )
    said = {one.slice: one for one in answer.slices}
    assert said["1"].expected_degradation is not None
    assert "model 'none' is not in the object store" in said["2"].error
    assert "model latency predicts dl_latency in ms" in said["3"].error
    assert said["4"].error == "the allocation lacks transport_bandwidth, which model embb takes"
    assert said["9"].error == "slice 9 is not in the problem"
    assert [s for s, one in said.items() if one.expected_degradation is not None] == ["1"]


class Endless:
    """A solver that is not done before the gate is opened."""

    gate = Gate()

    def solve(self, problem, models):
        assert Endless.gate.wait(60.0)
        return Solution(pool=problem.pool, interval=problem.interval, optimizer="endless", slices=[])


async def test_a_check_does_not_wait_behind_a_long_solve(bus, broker, make_problem, model, monkeypatch):
    monkeypatch.setattr("microopt_optimizer.worker.agent.create", lambda _: Endless())
    await model_store.publish(bus, "embb", model_file.to_bytes(model))
    problem = make_problem("1")
    Endless.gate.clear()
    async with running(build(Settings({"optimizer": {"serve": ["endless"]}}, "test")), broker.url):
        await served(bus, problem)
        solving = asyncio.create_task(bus.request(subjects.optimize("endless"), problem, Solution, timeout_s=60.0))
        try:
            asked = Check(problem=problem, allocations={"1": HERE})
            answer = await bus.request(subjects.CHECK, asked, Checked, timeout_s=20.0)
            assert answer.slices[0].expected_degradation is not None
            assert not solving.done()
        finally:
            Endless.gate.set()
        assert (await solving).optimizer == "endless"


async def test_a_worker_that_is_told_not_to_check_does_not(bus, broker, make_problem):
    problem = make_problem("1", model="none")
    async with running(build(Settings({"optimizer": {"check": False}}, "test")), broker.url):
        await eventually(lambda: _solves(bus, problem), what="a worker that solves")
        with pytest.raises(TemporaryError, match=f"nobody serves {subjects.CHECK}"):
            await bus.request(subjects.CHECK, Check(problem=problem, allocations={}), Checked, timeout_s=5.0)


async def _solves(bus, problem) -> bool:
    try:
        await bus.request(subjects.optimize("microopt"), problem, Solution, timeout_s=5.0)
    except TemporaryError:
        return False
    return True
