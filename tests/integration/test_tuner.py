"""The tuner on a real bus: a slice that changes, and a model that follows if operators want it to."""

import asyncio
import urllib.request
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from msgspec.structs import replace

from microopt import codec, streams
from microopt.broker import free_port
from microopt.errors import ConfigError
from microopt.messages import Event, Telemetry
from microopt.settings import Settings
from microopt.testing import eventually, running
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.model_store import ModelStore
from microopt_optimizer.slice_model.training import FAST, train
from microopt_optimizer.tuner import report, tuning
from microopt_optimizer.tuner.agent import build
from microopt_optimizer.versions import objects, routes
from microopt_optimizer.versions.cli import model as command

NAMES, UNITS = ("transport_bandwidth", "gnb_cpu"), ("Mbit/s", "millicores")
START = datetime(2026, 1, 1, tzinfo=UTC)
SLOTS = 500
QUICK = {
    "every_s": 0.1,
    "settle_s": 0.0,
    "judged": 200,
    "samples": 100,
    "tune_rows": 450,
    "window": 2000,
    "epochs": 60,
}


def arrays(rate: float, count: int, seed: int):
    rng = np.random.default_rng(seed)
    users = rng.integers(1, 6, count).astype(float)
    resources = np.column_stack([rng.uniform(5.0, 50.0, count), rng.uniform(500.0, 4500.0, count)])
    qos = rate * np.minimum(resources[:, 0], resources[:, 1] / 100.0) / users + rng.normal(0.0, 0.3, count)
    return users, resources, qos.clip(0.0)


@pytest.fixture(scope="module")
def model() -> bytes:
    torch.set_num_threads(1)
    config = replace(FAST, epochs=60, batch_size=128, teachers=0, input_noise=0.0, spread_epochs=0)
    return model_file.to_bytes(train(dataset_from_arrays(*arrays(1.0, 1500, 0), names=NAMES, units=UNITS), config))


class Slice:
    """Publishes telemetry of a slice, whose QoS is `rate` times what it was when the model was trained."""

    def __init__(self, bus) -> None:
        self._bus, self._slot = bus, 0

    async def measure(self, rate: float, count: int = SLOTS, name: str = "1") -> None:
        users, resources, qos = arrays(rate, count, self._slot + 7)
        slots = []
        for n in range(count):
            self._slot += 1
            slots.append(
                Telemetry(
                    slice=name,
                    time=START + timedelta(seconds=self._slot),
                    slot_s=1.0,
                    users=float(users[n]),
                    qos=float(qos[n]),
                    allocation=dict(zip(NAMES, resources[n].tolist(), strict=True)),
                )
            )
        assert await self._bus.publish_together(slots) == []


@pytest.fixture
async def slice_(bus, make_pool, make_slice, model):
    await bus.put_spec(streams.POOLS, "edge", make_pool())
    await bus.put_spec(streams.SLICES, "1", make_slice("1", model="embb"))
    await model_store.publish_version(bus, "embb", model)
    await routes.promote(bus, "embb", 1, reason="first", by="ops")
    return Slice(bus)


@pytest.fixture
def tuner(broker, bus):
    """Run a tuner that is ready for telemetry; give the URL of its metrics."""

    @asynccontextmanager
    async def run(**changes):
        port = free_port()
        agent = build(Settings({"tuner": {**QUICK, **changes}}, "test"))
        async with running(agent, broker.url, http={"port": port}):
            url = f"http://127.0.0.1:{port}"
            await eventually(lambda: asyncio.to_thread(_is_ready, url))
            yield url

    return run


def _is_ready(url) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310
            return answer.status == 200
    except OSError:
        return False


async def metrics(url) -> str:
    def read() -> str:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:  # noqa: S310
            return answer.read().decode()

    return await asyncio.to_thread(read)


async def found(bus, test):
    """Return the tuner's report once `test` holds of it."""

    async def probe():
        one = await report.get(bus, "embb")
        return one if one and test(one) else None

    return await eventually(probe, within_s=60.0, every_s=0.1)


async def events(bus) -> list[str]:
    info = await bus.js.stream_info(streams.EVENTS)
    raw = [await bus.js.get_msg(streams.EVENTS, n) for n in range(1, info.state.last_seq + 1)]
    return [codec.decode(m.data, Event, origin=m.subject).reason for m in raw]


async def test_a_slice_that_has_not_changed_is_no_drift(bus, tuner, slice_):
    async with tuner() as url:
        await slice_.measure(1.0)
        one = await found(bus, lambda r: r.rows == SLOTS)
        text = await metrics(url)
    assert not one.drifted
    assert one.fresh_nll < one.validation_nll + 0.3
    assert f'microopt_model_nll{{kind="fresh",model="embb"}} {one.fresh_nll}' in text
    assert f'microopt_model_nll{{kind="validation",model="embb"}} {one.validation_nll}' in text
    assert 'microopt_model_drifted{model="embb"} 0.0' in text
    assert not any("drifted" in reason for reason in await events(bus))
    assert [v.version for v in await objects.get_all(bus, "embb")] == [1]


async def test_a_slice_that_has_changed_is_drift_and_a_better_version_is_offered_and_not_promoted(
    bus, broker, tuner, slice_, model, monkeypatch
):
    async with tuner() as url:
        await slice_.measure(1.0)
        await found(bus, lambda r: r.rows == SLOTS)
        await slice_.measure(0.6)
        one = await found(bus, lambda r: r.offered)
        assert (one.drifted, one.version, one.offered) == (True, 1, 2)
        assert one.offered_nll < one.held_out_nll - 0.05
        assert 'microopt_model_tunings_total{model="embb",outcome="offered"} 1.0' in await metrics(url)
        await slice_.measure(0.6)
        await found(bus, lambda r: r.rows == 3 * SLOTS)
        said = await events(bus)
    assert [reason for reason in said if "version 1 has drifted" in reason]
    assert [reason for reason in said if reason.endswith("microopt model promote embb 2")]
    route, _ = await routes.current(bus, "embb")
    assert route.version == 1
    assert model_file.to_bytes(await ModelStore(bus, {}).get("embb")) == model
    assert [v.version for v in await objects.get_all(bus, "embb")] == [1, 2]  # what stands is not offered again
    monkeypatch.setenv("NATS_URL", broker.url)
    result = await asyncio.to_thread(CliRunner().invoke, command, ["drift"])
    assert "embb version 1: drifted" in result.output
    assert "microopt model promote embb 2" in result.output


async def test_where_that_is_wanted_it_is_promoted_is_no_drift_any_more_and_a_rollback_stays(
    bus, tuner, slice_, model
):
    async with tuner(promote=True):
        await slice_.measure(0.6)
        one = await found(bus, lambda r: r.version == 2)
        route, _ = await routes.current(bus, "embb")
        assert (route.version, route.previous, route.changed_by) == (2, 1, "microopt-tuner")
        await slice_.measure(0.6)
        one = await found(bus, lambda r: r.rows == 2 * SLOTS and r.version == 2)
        assert not one.drifted
        await routes.rollback(bus, "embb", reason="", by="ops")
        assert model_file.to_bytes(await ModelStore(bus, {}).get("embb")) == model
        await slice_.measure(0.6)
        one = await found(bus, lambda r: r.version == 1 and r.offered == 3)
        route, _ = await routes.current(bus, "embb")
    assert route.version == 1
    assert "version 2 was there and not in force" in one.note


async def test_an_offer_that_stands_is_not_made_again_by_a_tuner_that_was_restarted(bus, tuner, slice_):
    async with tuner():
        await slice_.measure(0.6)
        await found(bus, lambda r: r.offered == 2)
    async with tuner():
        await slice_.measure(0.6)
        one = await found(bus, lambda r: r.rows == SLOTS and r.drifted)
        assert one.offered == 2
    assert [v.version for v in await objects.get_all(bus, "embb")] == [1, 2]


async def test_what_is_not_better_by_the_margin_is_not_offered_and_is_said(bus, tuner, slice_):
    async with tuner(gain=90.0):
        await slice_.measure(0.6)
        one = await found(bus, lambda r: "not better by 90" in r.note)
    assert one.offered is None
    assert [v.version for v in await objects.get_all(bus, "embb")] == [1]


async def test_a_version_that_a_slice_names_itself_is_measured_and_not_tuned(bus, tuner, slice_, make_slice):
    await bus.put_spec(streams.SLICES, "1", make_slice("1", model="embb--1"))
    async with tuner():
        await slice_.measure(0.6)
        one = await eventually(lambda: _pinned(bus), within_s=60.0)
    assert (one.version, one.offered) == (1, None)
    assert "not tuned" in one.note
    assert [v.version for v in await objects.get_all(bus, "embb")] == [1]


async def _pinned(bus):
    one = await report.get(bus, "embb--1")
    return one if one and one.drifted and one.rows == SLOTS else None


async def test_telemetry_that_tells_nothing_of_the_model_is_left_out_and_named(bus, tuner, slice_, make_slice):
    await bus.put_spec(streams.SLICES, "2", make_slice("2", model="embb", pool="unknown"))
    async with tuner():
        await slice_.measure(1.0, count=50, name="2")
        one = await found(bus, lambda r: r.note)
    assert one.rows == 0
    assert one.note == "slice 2: pool unknown is not known"


async def test_a_model_that_is_not_there_is_said(bus, tuner, slice_, make_slice):
    await bus.put_spec(streams.SLICES, "1", make_slice("1", model="none"))
    async with tuner():
        await slice_.measure(1.0, count=50)
        one = await eventually(lambda: report.get(bus, "none"))
    assert "model 'none' is not in the object store" in one.note


async def test_trouble_with_one_model_keeps_no_other_from_being_measured(
    bus, tuner, slice_, make_slice, model, monkeypatch
):
    await model_store.publish(bus, "broken", model)
    await bus.put_spec(streams.SLICES, "2", make_slice("2", model="broken"))
    measure = tuning.nlls
    monkeypatch.setattr(tuning, "nlls", lambda m, rows: 1 / 0 if m.name == "broken" else measure(m, rows))
    async with tuner():
        await slice_.measure(1.0, count=50, name="2")
        await slice_.measure(1.0, count=50)
        await found(bus, lambda r: r.rows == 50)


def test_original_data_that_is_not_there_is_a_wrong_setting(tmp_path):
    table = {"data": {"embb": {"csv": str(tmp_path / "none.csv")}}}
    with pytest.raises(ConfigError, match=r"\[tuner\] data.embb: no such file"):
        build(Settings({"tuner": table}, "test"))
