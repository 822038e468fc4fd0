"""The optimizer worker and the router on a real bus: which models are used, and what becomes of the others."""

import base64
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
import numpy as np
import pytest
import structlog
import torch
from msgspec.structs import replace

from microopt import codec, streams
from microopt.agent import Agent
from microopt.errors import ModelError
from microopt.messages import Allocation, Answer
from microopt.settings import Settings
from microopt.specs import Route, Sla
from microopt.testing import eventually, running
from microopt_optimizer.router.agent import build as build_router
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.training import FAST, train
from microopt_optimizer.worker.agent import build as build_worker

GOOD, BAD = "1", "2"
ROUTER = {"gather_s": 0.3, "retry_s": 0.05, "answer_within_s": 5.0}


def measured(names=("transport_bandwidth", "gnb_cpu"), units=("Mbit/s", "millicores"), rate=1.0, **other):
    """Users share the lesser of bandwidth and a hundredth of the CPU, times `rate`."""
    rng = np.random.default_rng(0)
    users = rng.integers(1, 6, 600).astype(float)
    resources = np.column_stack([rng.uniform(5.0, 50.0, 600), rng.uniform(500.0, 4500.0, 600)])
    qos = rate * np.minimum(resources[:, 0], resources[:, 1] / 100.0) / users + rng.normal(0.0, 0.2, 600)
    return dataset_from_arrays(users, resources, qos.clip(0.0), names=names, units=units, **other)


def trained(**data) -> bytes:
    torch.set_num_threads(1)
    config = replace(FAST, epochs=30, batch_size=128)
    return model_file.to_bytes(train(measured(**data), config, name="test"))


@pytest.fixture(scope="module")
def model() -> bytes:
    return trained()


@pytest.fixture
async def objects(bus):
    return await bus.js.object_store(streams.MODELS)


@pytest.fixture
async def desired(bus, make_pool, make_slice, objects, model):
    """Two slices of one pool: the one with a good model, the other with a model of its own."""
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    sla = Sla(qos_threshold=3.0, degradation_threshold=0.2)
    await bus.put_spec(streams.SLICES, GOOD, make_slice(GOOD, sla=sla, model="good", interval_s=20.0))
    await bus.put_spec(streams.SLICES, BAD, make_slice(BAD, sla=sla, model="bad", interval_s=20.0))
    await bus.put_spec(streams.ROUTES, "edge", Route(pool="edge", active="microopt"))
    await objects.put("good", model)


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def agents_with(broker, desired, logged):
    """Run router, worker and a subscriber, with model files; give what the router allocates."""

    @asynccontextmanager
    async def run(**files):
        subscriber, seen = Agent("subscriber"), []

        @subscriber.on(Allocation, start="all")
        async def observe(allocation, _):
            seen.append(allocation)

        router = build_router(Settings({"router": ROUTER}, "test"))
        worker = build_worker(Settings({"optimizer": {"models": files}}, "test"))
        async with running(subscriber, broker.url), running(worker, broker.url), running(router, broker.url):
            yield seen

    return run


@pytest.fixture
async def allocations(agents_with):
    async with agents_with() as seen:
        yield seen


async def forecast_both(bus, make_forecast, duration_s=20.0):
    start = datetime.now(UTC)
    for name in (GOOD, BAD):
        await bus.publish(make_forecast(name, start=start, duration_s=duration_s, users=3.0))
    return start


async def answers(bus) -> list[Answer]:
    info = await bus.js.stream_info(streams.SOLUTIONS)
    messages = [await bus.js.get_msg(streams.SOLUTIONS, n) for n in range(1, info.state.last_seq + 1)]
    return [codec.decode(m.data, Answer, origin=m.subject) for m in messages]


async def refusal(bus) -> str:
    """Return why the router refused the answer for the bad slice, once it has."""
    return await eventually(lambda: _refused(bus))


async def _refused(bus) -> str:
    return next((answer.refused[BAD] for answer in await answers(bus) if BAD in answer.refused), "")


async def put_nothing(objects, model):
    return None


async def put_a_part(objects, model):
    await objects.put("bad", model[: len(model) // 2])


async def put_no_model(objects, model):
    await objects.put("bad", b"\x80\x04cos\nsystem\n(S'true'\ntR.")


async def put_an_empty_file(objects, model):
    await objects.put("bad", b"")


async def lose_the_chunks(objects, model):
    info = await objects.put("bad", model)
    await objects._js.purge_stream("OBJ_models", subject=f"$O.models.C.{info.nuid}")


async def damage_a_chunk(objects, model):
    info = await objects.put("bad", model)
    await objects._js.purge_stream("OBJ_models", subject=f"$O.models.C.{info.nuid}")
    await objects._js.publish(f"$O.models.C.{info.nuid}", model[:-1] + b"\xff")


async def break_the_entry(objects, model):
    name = base64.urlsafe_b64encode(b"bad").decode()
    await objects._js.publish(f"$O.models.M.{name}", b"not json")


async def put_and_delete(objects, model):
    await objects.put("bad", model)
    await objects.delete("bad")


async def other_resources(objects, _):
    await objects.put("bad", trained(names=("upf_cpu", "gnb_cpu"), units=("millicores", "millicores")))


async def other_units(objects, _):
    await objects.put("bad", trained(units=("Mbit/s", "cores")))


async def other_metric(objects, _):
    await objects.put("bad", trained(qos_metric="dl_latency", qos_unit="ms", higher_is_better=False))


async def other_qos_unit(objects, _):
    await objects.put("bad", trained(qos_unit="kbit/s"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (put_nothing, "model 'bad' is not in the object store; put it there with `microopt train --publish bad`"),
        (put_and_delete, "model 'bad' is not in the object store"),
        (put_a_part, "model bad: cut off"),
        (put_no_model, "model bad: not a safetensors file"),
        (put_an_empty_file, "model bad: not a safetensors file (0 bytes)"),
        (lose_the_chunks, "model 'bad': cut off, 0 of "),
        (damage_a_chunk, "model 'bad': damaged in the object store"),
        (break_the_entry, "model 'bad': what the object store says of it cannot be read"),
        (other_resources, "model bad was trained for resources ['gnb_cpu', 'upf_cpu']"),
        (other_units, "model bad has gnb_cpu in cores, pool edge in millicores"),
        (
            other_metric,
            "model bad predicts dl_latency in ms (higher_is_better=False), the SLA is on dl_thpt_per_ue",
        ),
        (other_qos_unit, "model bad predicts dl_thpt_per_ue in kbit/s"),
    ],
    ids=lambda value: getattr(value, "__name__", "said"),
)
async def test_a_slice_whose_model_cannot_be_used_is_refused_with_the_reason_and_the_other_is_allocated(
    bus, objects, allocations, make_forecast, model, logged, spoil, said
):
    await spoil(objects, model)
    await forecast_both(bus, make_forecast)
    assert f"not solved: {said}" in await refusal(bus)
    await eventually(lambda: allocations)
    assert {a.slice for a in allocations} == {GOOD}
    assert allocations[0].status in ("optimal", "feasible")
    assert allocations[0].expected_degradation <= 0.2
    unusable = [line for line in logged if line["event"] == "model_unusable"]
    assert {line["slice"] for line in unusable} == {BAD}
    assert all(said in line["error"] for line in unusable)
    assert {line["slice"] for line in logged if line["event"] == "answer_refused"} == {BAD}


async def test_both_slices_are_allocated_within_the_bounds_when_both_models_are_good(
    bus, objects, allocations, make_forecast, make_slice, model
):
    await objects.put("bad", model)
    await forecast_both(bus, make_forecast)
    await eventually(lambda: len(allocations) == 2)
    bounds = make_slice().bounds
    for allocation in allocations:
        assert set(allocation.values) == set(bounds)
        assert all(bounds[r].floor <= v <= bounds[r].ceiling for r, v in allocation.values.items())


async def test_a_model_that_is_put_right_heals_the_round_that_waits_for_it(
    bus, objects, allocations, make_forecast, model
):
    await put_a_part(objects, model)
    await forecast_both(bus, make_forecast)
    await refusal(bus)
    await model_store.publish(bus, "bad", model)
    await eventually(lambda: {a.slice for a in allocations} == {GOOD, BAD})


async def test_a_model_that_is_replaced_is_used_from_the_next_interval_on_without_a_restart(
    bus, objects, allocations, make_forecast, model
):
    await objects.put("bad", model)
    await forecast_both(bus, make_forecast)
    await eventually(lambda: len(allocations) == 2)
    await model_store.publish(bus, "bad", trained(rate=2.0))
    await forecast_both(bus, make_forecast)
    await eventually(lambda: len(allocations) == 4)
    before, after = ([a for a in allocations if a.slice == BAD][n].values for n in (0, 1))
    assert after["transport_bandwidth"] < 0.8 * before["transport_bandwidth"]
    unchanged = [a.values for a in allocations if a.slice == GOOD]
    assert unchanged[0]["transport_bandwidth"] == pytest.approx(unchanged[1]["transport_bandwidth"], rel=0.02)


async def test_what_workers_could_not_use_is_not_published(bus, objects, model):
    with pytest.raises(ModelError, match="model new: cut off"):
        await model_store.publish(bus, "new", model[:-1])
    with pytest.raises(nats.js.errors.NotFoundError):
        await objects.get_info("new")


async def test_files_win_over_the_object_store_and_are_refused_like_it(
    bus, agents_with, make_forecast, tmp_path, model
):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "good").write_bytes(model)
    async with agents_with(**{"good": str(folder / "good"), "bad": str(folder)}):
        await forecast_both(bus, make_forecast)
        assert f"model file {folder}: Is a directory" in await refusal(bus)
        (folder / "bad").write_bytes(model)
    async with agents_with(**{"good": str(folder / "none"), "bad": str(folder / "bad")}) as seen:
        await forecast_both(bus, make_forecast)
        await eventually(lambda: {a.slice for a in seen} == {GOOD, BAD})
    assert [a.slice for a in seen].count(BAD) == 1


async def test_a_broken_problem_gets_an_answer_that_names_the_field_and_the_next_is_solved(
    bus, objects, allocations, make_forecast, model
):
    await eventually(lambda: _asks(bus, b"{}"))
    for data, field in ((b"junk", "malformed"), (b'{"type":"microopt.problem.v1","pool":"edge"}', "`interval`")):
        answer = await bus.nc.request("microopt.optimize.microopt", data, timeout=5)
        assert answer.headers["Nats-Service-Error-Code"] == "400"
        assert field in answer.headers["Nats-Service-Error"]
    await objects.put("bad", model)
    await forecast_both(bus, make_forecast)
    await eventually(lambda: len(allocations) == 2)


async def _asks(bus, data):
    try:
        return await bus.nc.request("microopt.optimize.microopt", data, timeout=1)
    except nats.errors.Error:
        return None
