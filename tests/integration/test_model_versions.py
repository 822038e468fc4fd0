"""Versions of slice models on a real bus: what is in force for workers, and how operators change it."""

import asyncio
from datetime import UTC, datetime
from threading import Event as Gate

import pytest
import torch
from click.testing import CliRunner

from microopt import codec, streams, subjects
from microopt.errors import ConfigError, ModelError, TemporaryError
from microopt.messages import Check, Checked, Event, Interval, Problem, SliceProblem, Solution, Traffic
from microopt.settings import Settings
from microopt.specs import Bounds, ModelRoute, Sla
from microopt.testing import eventually, running
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.model_file import ModelHeader, Range, ResourceInput, TrainedModel
from microopt_optimizer.slice_model.model_store import ModelStore
from microopt_optimizer.slice_model.network import Architecture, SliceModel
from microopt_optimizer.versions import objects, routes
from microopt_optimizer.versions.cli import model as command
from microopt_optimizer.worker.agent import build

HERE = {"transport_bandwidth": 20.0, "gnb_cpu": 2000.0}


def made(seed: int) -> bytes:
    torch.manual_seed(seed)
    network = SliceModel(Architecture(inputs=3))
    network.norm.running_mean.copy_(torch.tensor([3.0, 25.0, 2500.0]))
    network.norm.running_var.copy_(torch.tensor([2.0, 150.0, 1e6]))
    network.qos_offset.fill_(4.0)
    network.qos_scale.fill_(8.0)
    units = {"transport_bandwidth": "Mbit/s", "gnb_cpu": "millicores"}
    header = ModelHeader(
        architecture=network.architecture,
        resources=tuple(ResourceInput(name=n, unit=u, trained=Range(0.0, 4500.0)) for n, u in units.items()),
        users=Range(0.0, 10.0),
        qos_metric="dl_thpt_per_ue",
        qos_unit="Mbit/s",
        higher_is_better=True,
    )
    return model_file.to_bytes(TrainedModel(network, header))


def digest(data: bytes) -> str:
    return model_file.load(data).digest


async def promote(bus, version, name="embb"):
    return await routes.promote(bus, name, version, reason="test", by="ops")


async def in_force(store, name="embb") -> str:
    return (await store.get(name)).digest


async def test_a_name_without_a_route_is_the_object_of_that_name(bus):
    data = made(1)
    await model_store.publish(bus, "embb", data)
    await model_store.publish_version(bus, "embb", made(2))
    store = ModelStore(bus, {})
    assert await in_force(store) == digest(data)
    assert (await store.get("embb")).name == "embb"


async def test_a_promoted_version_is_used_at_once_and_a_rollback_restores_the_old_one_bit_for_bit(bus):
    plain, first, second = made(1), made(2), made(3)
    await model_store.publish(bus, "embb", plain)
    store = ModelStore(bus, {})
    assert await in_force(store) == digest(plain)
    assert [await model_store.publish_version(bus, "embb", data) for data in (first, second)] == [1, 2]
    for version, data in ((1, first), (2, second)):
        await promote(bus, version)
        assert await in_force(store) == digest(data)
        assert (await store.get("embb")).name == f"embb--{version}"
    await routes.rollback(bus, "embb", reason="worse", by="ops")
    assert model_file.to_bytes(await store.get("embb")) == first
    route = await routes.rollback(bus, "embb", reason="", by="ops")
    assert (route.version, route.previous) == (0, None)
    assert model_file.to_bytes(await store.get("embb")) == plain
    with pytest.raises(ConfigError, match="nothing to go back to, version 0 came first"):
        await routes.rollback(bus, "embb", reason="", by="ops")


async def test_who_holds_the_former_version_keeps_it(bus):
    first, second = made(1), made(2)
    for data in (first, second):
        await model_store.publish_version(bus, "embb", data)
    await promote(bus, 1)
    store = ModelStore(bus, {})
    held = await store.get("embb")
    await promote(bus, 2)
    assert await in_force(store) == digest(second)
    assert model_file.to_bytes(held) == first


async def test_a_slice_may_name_a_version_itself_and_the_route_does_not_change_it(bus):
    first, second = made(1), made(2)
    for data in (first, second):
        await model_store.publish_version(bus, "embb", data)
    await promote(bus, 2)
    store = ModelStore(bus, {})
    assert await in_force(store, "embb--1") == digest(first)
    with pytest.raises(ModelError, match="'embb--7' is not in the object store; `microopt model list embb`"):
        await store.get("embb--7")


async def test_going_back_twice_and_forward_again_keeps_the_way_back(bus):
    for seed in (1, 2, 3):
        await model_store.publish_version(bus, "embb", made(seed))
    for version in (1, 2, 3):
        await promote(bus, version)
    for version in (2, 1):
        assert (await routes.rollback(bus, "embb", reason="", by="ops")).version == version
    await promote(bus, 3)
    route = await routes.rollback(bus, "embb", reason="slow", by="ops")
    assert (route.version, route.previous, route.reason) == (1, None, "rollback from version 3: slow")
    kept = [each.version for each in await routes.history(bus, "embb")]
    assert kept == [1, 2, 3, 2, 1, 3, 1]


async def test_going_back_from_a_version_that_was_promoted_again_is_no_circle(bus):
    for seed in (1, 2):
        await model_store.publish_version(bus, "embb", made(seed))
    for version in (1, 2, 1):
        await promote(bus, version)
    for version in (2, 1):
        assert (await routes.rollback(bus, "embb", reason="", by="ops")).version == version
    with pytest.raises(ConfigError, match="nothing to go back to, version 1 came first"):
        await routes.rollback(bus, "embb", reason="", by="ops")


async def test_of_two_changes_made_from_one_state_the_later_is_refused(bus):
    for seed in (1, 2):
        await model_store.publish_version(bus, "embb", made(seed))
    seen = await routes.current(bus, "embb")
    await routes.promote(bus, "embb", 1, reason="", by="one", standing=seen)
    with pytest.raises(TemporaryError, match="somebody else changed its route meanwhile"):
        await routes.promote(bus, "embb", 2, reason="", by="two", standing=seen)
    route, _ = await routes.current(bus, "embb")
    assert (route.version, route.changed_by) == (1, "one")


async def test_versions_that_are_published_at_the_same_time_get_numbers_of_their_own(bus):
    data = [made(seed) for seed in range(6)]
    numbers = await asyncio.gather(*(objects.put(bus, "embb", each, f"of {n}") for n, each in enumerate(data)))
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    store = ModelStore(bus, {})
    for number, each in zip(numbers, data, strict=True):
        assert await in_force(store, f"embb--{number}") == digest(each)
    assert {v.version: v.about for v in await objects.get_all(bus, "embb")} == {
        number: f"of {n}" for n, number in enumerate(numbers)
    }


async def test_a_number_is_not_given_again_after_its_version_was_deleted(bus):
    for seed in (1, 2):
        await model_store.publish_version(bus, "embb", made(seed))
    await (await bus.js.object_store(streams.MODELS)).delete("embb--2")
    assert [v.version for v in await objects.get_all(bus, "embb")] == [1]
    assert await model_store.publish_version(bus, "embb", made(3)) == 3
    with pytest.raises(ConfigError, match="model embb has no version 2; versions: 1, 3"):
        await promote(bus, 2)


async def test_an_entry_that_is_no_objects_keeps_nobody_from_publishing(bus, run_command):
    await bus.js.publish(f"$O.{streams.MODELS}.M.Zg", b"{}")  # no base64
    assert await model_store.publish_version(bus, "embb", made(1)) == 1
    assert "embb: no route" in (await run_command("list")).output


async def test_a_route_that_cannot_be_read_leaves_in_force_what_is_and_is_named_to_who_begins(bus):
    first = made(1)
    await model_store.publish_version(bus, "embb", first)
    await promote(bus, 1)
    store = ModelStore(bus, {})
    await store.get("embb")
    kv = await bus.js.key_value(streams.MODEL_ROUTES)
    await kv.put("embb", b"junk")
    assert await in_force(store) == digest(first)
    with pytest.raises(ModelError, match="model 'embb': which version is in force cannot be read"):
        await ModelStore(bus, {}).get("embb")
    await model_store.publish_version(bus, "embb", made(2))
    await promote(bus, 2)
    assert await in_force(ModelStore(bus, {})) == digest(made(2))


async def test_a_change_is_an_event_of_each_pool_whose_slices_name_the_model(bus, make_pool, make_slice):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    for name, model in (("1", "embb"), ("2", "embb"), ("3", "urllc")):
        await bus.put_spec(streams.SLICES, name, make_slice(name, model=model))
    await bus.put_spec(streams.SLICES, "4", make_slice("4", model="embb", pool="core"))
    await bus.put_spec(streams.SLICES, "5", make_slice("5", model="embb--1", pool="pinned"))
    await model_store.publish_version(bus, "embb", made(1))
    await promote(bus, 1)
    info = await bus.js.stream_info(streams.EVENTS)
    raw = [await bus.js.get_msg(streams.EVENTS, n) for n in range(1, info.state.last_seq + 1)]
    events = [codec.decode(m.data, Event, origin=m.subject) for m in raw]
    assert [(e.pool, e.kind) for e in events] == [("core", "model"), ("edge", "model")]
    assert events[0].reason == "model embb: version 1 in force by ops: test"


@pytest.fixture
def make_problem(make_pool):
    def build() -> Problem:
        item = SliceProblem(
            slice="1",
            sla=Sla(qos_threshold=4.0, degradation_threshold=0.9),
            traffic=Traffic((3.0,), (1.0,)),
            bounds={"transport_bandwidth": Bounds(5.0, 50.0), "gnb_cpu": Bounds(500.0, 4500.0)},
            model="embb",
        )
        interval = Interval(datetime.now(UTC), 20.0)
        return Problem(pool="edge", interval=interval, resources=make_pool().resources, slices=[item])

    return build


class Held:
    """A solver that says which model it was given, once the gate is open."""

    def __init__(self) -> None:
        self.begun, self.gate = Gate(), Gate()

    def solve(self, problem, models):
        self.begun.set()
        assert self.gate.wait(60.0)
        return Solution(
            pool=problem.pool,
            interval=problem.interval,
            optimizer="held",
            slices=[],
            version=models["embb"].digest,
        )


async def test_a_solve_in_hand_ends_with_the_old_version_and_the_next_has_the_new_one(
    bus, broker, make_problem, monkeypatch
):
    held = Held()
    monkeypatch.setattr("microopt_optimizer.worker.agent.create", lambda _: held)
    first, second = made(1), made(2)
    for data in (first, second):
        await model_store.publish_version(bus, "embb", data)
    await promote(bus, 1)
    problem = make_problem()
    async with running(build(Settings({"optimizer": {"serve": ["held"]}}, "test")), broker.url):
        asked = Check(problem=problem, allocations={"1": HERE})
        before = await eventually(lambda: _checked(bus, asked))
        solving = asyncio.create_task(bus.request(subjects.optimize("held"), problem, Solution, timeout_s=60.0))
        await eventually(held.begun.is_set)
        await promote(bus, 2)
        after = await _checked(bus, asked)
        held.gate.set()
        assert (await solving).version == digest(first)
        again = await bus.request(subjects.optimize("held"), problem, Solution, timeout_s=60.0)
        assert again.version == digest(second)
    assert before.slices[0].expected_degradation != after.slices[0].expected_degradation


async def _checked(bus, asked):
    try:
        return await bus.request(subjects.CHECK, asked, Checked, timeout_s=5.0)
    except TemporaryError:
        return None


@pytest.fixture
def run_command(broker, monkeypatch):
    monkeypatch.setenv("NATS_URL", broker.url)

    async def run(*arguments: str):
        result = await asyncio.to_thread(CliRunner().invoke, command, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


async def test_an_operator_publishes_promotes_and_goes_back_with_one_command_each(bus, run_command, tmp_path):
    for number in (1, 2):
        (tmp_path / f"m{number}").write_bytes(made(number))
    said = await run_command("publish", str(tmp_path / "m1"), "--name", "embb", "--promote", "--reason", "first")
    assert "published embb version 1" in said.output
    assert "embb: version 1 in force since" in said.output
    said = await run_command("publish", str(tmp_path / "m2"), "--name", "embb")
    assert "not in force: `microopt model promote embb 2`" in said.output
    said = await run_command("promote", "embb", "2", "--reason", "better")
    assert "before it version 1; better" in said.output
    said = (await run_command("list")).output.splitlines()
    assert said[0].startswith("embb: version 2 in force since")
    assert [line[:8] for line in said[1:]] == ["      1 ", " *    2 "]
    said = await run_command("rollback", "embb")
    assert "embb: version 1 in force" in said.output
    assert model_file.to_bytes(await ModelStore(bus, {}).get("embb")) == made(1)
    route, _ = await routes.current(bus, "embb")
    assert isinstance(route, ModelRoute)
    assert route.reason == "rollback from version 2"


async def test_a_file_that_is_no_model_and_a_name_that_is_a_version_are_refused(bus, run_command, tmp_path):
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(ModelError, match="not a safetensors file"):
        await run_command("publish", str(tmp_path / "junk"), "--name", "embb")
    with pytest.raises(ConfigError, match="which names a version"):
        await run_command("publish", str(tmp_path / "junk"), "--name", "embb--1")
    assert await objects.get_all(bus) == []
    with pytest.raises(ConfigError, match="there is no model 'other'"):
        await run_command("list", "other")


async def test_without_a_tuner_nothing_is_known_of_drift_and_it_says_so(bus, run_command):
    assert "nothing measured yet" in (await run_command("drift")).output
