"""The forecaster, from stored telemetry to forecasts, against a real server."""

import asyncio
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
import structlog

from microopt import codec, streams
from microopt.agent import Agent
from microopt.cancel import cancel
from microopt.errors import ConfigError
from microopt.messages import Forecast, Telemetry
from microopt.settings import Settings
from microopt.testing import eventually, running
from microopt_forecaster import models
from microopt_forecaster.agent import build
from microopt_forecaster.followed import FollowedSlice
from microopt_forecaster.settings import ForecasterSettings

SLICE = "1-000001"
SLOT_S, INTERVAL_S, SEASON_S = 0.1, 0.5, 5.0
SLOTS_A_SEASON = 50
SEASONS = 4


@pytest.fixture
def spec(make_slice):
    return make_slice(slot_s=SLOT_S, interval_s=INTERVAL_S, season_s=SEASON_S)


@pytest.fixture
def past(telemetry):
    """Build the telemetry of the last `seasons` seasons, up to now; users rise in each season and between them."""

    def build(seasons: int = SEASONS, slice_: str = SLICE) -> list[Telemetry]:
        now = int(time.time() / SLOT_S)
        slots = range(now - seasons * SLOTS_A_SEASON, now)
        zero = telemetry(0).time - timedelta(seconds=telemetry(0).time.timestamp())
        return [
            telemetry(
                slice=slice_,
                time=zero + timedelta(milliseconds=100 * n),
                slot_s=SLOT_S,
                users=float(n % SLOTS_A_SEASON // 10 + n // SLOTS_A_SEASON % 7),
            )
            for n in slots
        ]

    return build


async def store(bus, samples):
    """Store telemetry as the collector does, only faster."""
    waiting = [
        await bus.js.publish_async(
            f"microopt.telemetry.{s.slice}", codec.encode(s), headers={"Nats-Msg-Id": s.message_id}
        )
        for s in samples
    ]
    await asyncio.gather(*waiting)


TABLE = {"models": ["seasonal-naive", "ridge"], "checkpoint_s": 0.5}


@asynccontextmanager
async def forecasting(broker, http_port=0, **table):
    agent = build(Settings({"forecaster": TABLE | table}, origin="test"))
    async with running(agent, broker.url, http={"port": http_port}) as process:
        yield process


@asynccontextmanager
async def hearing(broker):
    """Follow every stored forecast, from the first."""
    ear, heard = Agent("ear"), []

    @ear.on(Forecast, start="all")
    async def hear(forecast, _):
        heard.append(forecast)

    async with running(ear, broker.url):
        yield heard


def expected(samples, forecast, spec):
    """Forecast the same interval from the samples that were there before it, in one go."""
    followed = FollowedSlice(spec, ForecasterSettings(models=TABLE["models"]))
    for sequence, sample in enumerate(samples, 1):
        followed.note(sample, sequence)
    interval = followed.schedule.number(forecast.interval.start.timestamp())
    found = followed.expect(interval, followed.snapshot())
    return found.traffic, found.prediction.bands()


def said(forecast):
    return forecast.traffic, forecast.bands


def of(heard, slice_):
    return [f for f in heard if f.slice == slice_]


async def counted(port, metric):
    """Return the value of one metric of an agent, 0 while it is not there."""

    def get():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    try:
        lines = (await asyncio.to_thread(get)).splitlines()
    except urllib.error.URLError:  # not up yet
        return 0.0
    return next((float(line.split()[-1]) for line in lines if line.startswith(metric)), 0.0)


async def test_the_current_and_each_further_interval_is_forecast_from_the_stored_telemetry(
    bus, broker, spec, past
):
    samples = past()
    await store(bus, samples)
    await bus.put_spec(streams.SLICES, SLICE, spec)
    async with hearing(broker) as heard, forecasting(broker):
        await eventually(lambda: len(heard) >= 3)
    assert heard[0].interval.start < heard[0].made_at  # it had begun before the forecaster did
    starts = [f.interval.start.timestamp() for f in heard]
    assert all(start % INTERVAL_S == 0 for start in starts)
    assert {later - earlier for earlier, later in pairwise(starts)} == {INTERVAL_S}
    assert {f.interval.duration_s for f in heard} == {INTERVAL_S}
    assert {f.model for f in heard} <= {"seasonal-naive", "ridge"}
    assert [said(f) for f in heard] == [expected(samples, f, spec) for f in heard]


async def test_a_forecast_is_made_its_lead_before_the_interval(bus, broker, spec, past):
    await store(bus, past())
    await bus.put_spec(streams.SLICES, SLICE, msgspec.structs.replace(spec, lead_s=INTERVAL_S))
    async with hearing(broker) as heard, forecasting(broker):
        await eventually(lambda: len(heard) >= 4)
    lead_s = [(f.interval.start - f.made_at).total_seconds() for f in heard]
    assert max(lead_s) <= INTERVAL_S
    assert max(lead_s) > SLOT_S  # which would be the lead if none were given


async def test_no_forecast_comes_from_a_history_that_is_read_in_part(bus, broker, spec, past):
    spec = msgspec.structs.replace(spec, lead_s=INTERVAL_S)
    samples = past(15)
    await store(bus, [s for n in range(2) for s in _renamed(samples, f"{n + 2}")] + samples)
    await bus.put_spec(streams.SLICES, SLICE, spec)
    async with hearing(broker) as heard, forecasting(broker):
        await eventually(lambda: len(heard) >= 4)
    assert heard[0].interval.start < heard[0].made_at  # even the first, which is made at once
    assert [said(f) for f in heard] == [expected(samples, f, spec) for f in heard]


def _renamed(samples, slice_):
    return [msgspec.structs.replace(s, slice=slice_) for s in samples]


async def test_a_killed_forecaster_says_no_forecast_again(bus, broker, spec, past):
    await store(bus, past())
    await bus.put_spec(streams.SLICES, SLICE, msgspec.structs.replace(spec, lead_s=INTERVAL_S))
    async with hearing(broker) as heard:
        async with forecasting(broker) as first:
            await eventually(lambda: len(heard) >= 4)
            first.task.cancel()  # as kill -9
            await asyncio.wait({first.task})
        last = heard[-1].interval.start
        async with forecasting(broker):
            await eventually(lambda: heard[-1].interval.start > last)
    starts = [f.interval.start for f in heard]
    assert starts == sorted(set(starts))


async def test_a_forecast_is_not_repeated_when_the_server_forgot_its_id(bus, broker, spec, past, make_forecast):
    await store(bus, past())
    await bus.put_spec(streams.SLICES, SLICE, msgspec.structs.replace(spec, lead_s=INTERVAL_S))
    begin = datetime.fromtimestamp(time.time() // INTERVAL_S * INTERVAL_S, UTC)
    starts = [begin + n * timedelta(seconds=INTERVAL_S) for n in range(2)]
    for start in starts:  # without ids, as if they were said long before
        forecast = make_forecast(start=start, duration_s=INTERVAL_S)
        await bus.js.publish(f"microopt.forecast.{SLICE}", codec.encode(forecast))
    async with hearing(broker) as heard, forecasting(broker):
        await eventually(lambda: len(heard) > len(starts))
    assert min(f.interval.start for f in heard[len(starts) :]) > starts[-1]


async def test_replicas_say_each_forecast_once(bus, broker, spec, past):
    await store(bus, past())
    await bus.put_spec(streams.SLICES, SLICE, spec)
    async with hearing(broker) as heard, forecasting(broker), forecasting(broker):
        await eventually(lambda: len(heard) >= 8)
    assert set(Counter(f.interval.start for f in heard).values()) == {1}


async def test_a_cold_start_forecasts_as_soon_as_three_intervals_are_known(bus, broker, spec, past, unused_port):
    await bus.put_spec(streams.SLICES, SLICE, spec)
    unknown = 'microopt_forecaster_forecasts_total{outcome="unknown"}'
    async with hearing(broker) as heard, forecasting(broker, http_port=unused_port):
        await eventually(lambda: counted(unused_port, unknown))
        assert heard == []
        begin = time.time()

        async def goes_on():
            await store(bus, [s for s in past() if s.time.timestamp() >= begin])
            return heard

        [first, *_] = await eventually(goes_on)
    assert first.interval.start.timestamp() >= begin + 2 * INTERVAL_S


class Broken:
    """A model that can forecast nothing."""

    name = "broken"

    def fit(self, steps, gap):
        raise ZeroDivisionError("a bug")


async def test_a_slice_that_cannot_be_forecast_stops_no_other(bus, broker, spec, past, unused_port, monkeypatch):
    monkeypatch.setitem(models.MODELS, "broken", lambda _: Broken())
    for slice_, model in (("2", "broken"), (SLICE, "auto")):
        await store(bus, past(slice_=slice_))
        changed = msgspec.structs.replace(spec, slice=slice_, forecast_model=model)
        await bus.put_spec(streams.SLICES, slice_, changed)
    async with hearing(broker) as heard, forecasting(broker, http_port=unused_port):
        await eventually(lambda: counted(unused_port, 'microopt_forecaster_forecasts_total{outcome="failed"}'))
        before = len(of(heard, SLICE))
        await eventually(lambda: len(of(heard, SLICE)) > before)
    assert of(heard, "2") == []


async def test_telemetry_from_the_future_is_kept_and_moves_no_history(bus, broker, spec, past):
    samples = past()
    await store(bus, samples)
    await bus.put_spec(streams.SLICES, SLICE, spec)
    absurd = msgspec.structs.replace(samples[-1], time=samples[-1].time + timedelta(days=3650))
    async with hearing(broker) as heard, forecasting(broker):
        await eventually(lambda: heard)
        await bus.publish(absurd)
        before = len(heard)
        await eventually(lambda: len(heard) >= before + 2)
        kept = await bus.js.get_last_msg(streams.DEAD, "microopt.dead.forecaster")
    assert "in the future" in kept.headers["Microopt-Error"]
    assert [said(f) for f in heard] == [expected(samples, f, spec) for f in heard]


async def test_a_last_telemetry_that_cannot_be_read_only_delays_the_first_forecast(bus, broker, spec, past):
    await store(bus, past())
    await bus.js.publish(f"microopt.telemetry.{SLICE}", b"not JSON")
    await bus.put_spec(streams.SLICES, SLICE, spec)
    async with hearing(broker) as heard, forecasting(broker):

        async def goes_on():
            await store(bus, past(1))
            return heard

        assert await eventually(goes_on, every_s=0.1)


@asynccontextmanager
async def measuring(bus, samples):
    """Say one more slot after another as it passes, as the collector does; the slots that were said are added."""

    async def go_on():
        while True:
            following = samples[-1].time + timedelta(seconds=SLOT_S)
            await asyncio.sleep((following - datetime.now(UTC)).total_seconds() + 1.25 * SLOT_S)
            slot = round(following.timestamp() / SLOT_S)
            samples.append(
                msgspec.structs.replace(samples[-1], time=following, users=3.0 + slot % SLOTS_A_SEASON // 10)
            )
            await bus.publish(samples[-1])

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        await cancel([task])


async def heard_more(heard, count):
    before = len(heard)
    await eventually(lambda: len(heard) >= before + count)


async def test_a_crash_and_a_restart_change_no_forecast(bus, broker, spec, past):
    samples = past()
    await store(bus, samples)
    spec = msgspec.structs.replace(spec, lead_s=2 * SLOT_S)
    await bus.put_spec(streams.SLICES, SLICE, spec)
    async with hearing(broker) as heard, measuring(bus, samples):
        async with forecasting(broker) as first:
            await heard_more(heard, 5)
            first.task.cancel()  # as kill -9
            await asyncio.wait({first.task})
        async with forecasting(broker):
            await heard_more(heard, 4)
        async with forecasting(broker):
            await heard_more(heard, 4)
    in_time = [f for f in heard if f.made_at < f.interval.start]
    assert len(in_time) >= 6
    for forecast in in_time:
        known = [s for s in samples if s.time + timedelta(seconds=SLOT_S) < forecast.interval.start]
        assert forecast.bands == expected(known, forecast, spec)[1]


async def test_replicas_share_the_slices_and_one_takes_over_from_another(bus, broker, spec, past, unused_port):
    slices = [str(n) for n in range(1, 7)]
    for slice_ in slices:
        await store(bus, past(slice_=slice_))
        await bus.put_spec(streams.SLICES, slice_, msgspec.structs.replace(spec, slice=slice_))
    said_here = 'microopt_forecaster_forecasts_total{outcome="new"}'
    async with hearing(broker) as heard, forecasting(broker, http_port=unused_port) as first:
        async with forecasting(broker):
            await eventually(lambda: len(heard) > 30)
            await asyncio.sleep(1.5)  # until both have heard each other
            before, here_before = len(heard), await counted(unused_port, said_here)
            await eventually(lambda: len(heard) >= before + 24)
            here = await counted(unused_port, said_here) - here_before
            assert 0 < here < len(heard) - before
        assert first.task is not None
        last = {slice_: of(heard, slice_)[-1].interval.start for slice_ in slices}
        await eventually(lambda: all(of(heard, s)[-1].interval.start > last[s] for s in slices))
    assert max(Counter((f.slice, f.interval.start) for f in heard).values()) == 1


async def test_a_slice_that_is_applied_after_its_history_was_imported_is_forecast_from_it(bus, broker, spec, past):
    samples = past()
    await store(bus, samples)
    async with hearing(broker) as heard, forecasting(broker):
        await asyncio.sleep(0.5)
        await bus.put_spec(streams.SLICES, SLICE, spec)
        await eventually(lambda: heard)
    assert said(heard[0]) == expected(samples, heard[0], spec)


async def test_history_that_is_imported_while_the_slice_is_followed_is_used(bus, broker, spec, past, unused_port):
    await bus.put_spec(streams.SLICES, SLICE, spec)
    unknown = 'microopt_forecaster_forecasts_total{outcome="unknown"}'
    async with hearing(broker) as heard, forecasting(broker, http_port=unused_port):
        await eventually(lambda: counted(unused_port, unknown))
        assert heard == []
        await store(bus, past())
        await eventually(lambda: heard)


async def test_a_state_that_cannot_be_read_is_made_anew_from_the_telemetry(bus, broker, spec, past):
    samples = past()
    await store(bus, samples)
    kv = await bus.js.key_value(streams.FORECASTER)
    await kv.put(SLICE, b'{"type": "microopt.forecaster-state.v1", "slice": "1"}')
    await bus.put_spec(streams.SLICES, SLICE, spec)
    async with hearing(broker) as heard, forecasting(broker):
        await eventually(lambda: heard)
    assert said(heard[0]) == expected(samples, heard[0], spec)


@pytest.mark.parametrize("model", ["prophecy", "neuralprophet"])
async def test_a_model_that_cannot_be_had_is_said_and_the_best_is_taken(bus, broker, spec, past, model):
    await store(bus, past())
    await bus.put_spec(streams.SLICES, SLICE, msgspec.structs.replace(spec, forecast_model=model))
    with structlog.testing.capture_logs() as lines:
        async with hearing(broker) as heard, forecasting(broker):
            await eventually(lambda: heard)
    assert any(f"forecast model {model}" in str(line) for line in lines)


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"models": ["neuralprophet"]}, r"pip install \"microopt\[neuralprophet\]\""),
        ({"models": ["prophecy"]}, "no forecast model prophecy"),
        ({"timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus'"),
        ({"holidays": "XX"}, "holidays 'XX'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_at_the_start(table, error):
    with pytest.raises(ConfigError, match=error):
        build(Settings({"forecaster": table}, origin="test"))


async def test_forecasts_go_on_after_the_server_was_killed_and_restarted(bus, broker, spec, past):
    await store(bus, past())
    await bus.put_spec(streams.SLICES, SLICE, spec)
    async with hearing(broker) as heard, forecasting(broker):
        await eventually(lambda: heard)
        await broker.kill()
        await broker.start()
        restarted = datetime.now(UTC)
        await eventually(lambda: heard[-1].made_at > restarted, within_s=30)
