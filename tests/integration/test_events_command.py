"""`microopt events`, from a real stream to the terminal."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from microopt import codec, streams
from microopt.cli import main
from microopt.messages import Event
from microopt.testing import eventually

NOW = datetime.now(UTC)


def event(seconds: float, kind: str, **changes) -> Event:
    return Event(**{"pool": "edge", "kind": kind, "at": NOW + timedelta(seconds=seconds), **changes})


@pytest.fixture
async def stored(bus, make_pool):
    for name in ("edge", "core"):
        await bus.put_spec(streams.POOLS, name, make_pool(name))
    for one in (
        event(3, "fallback", optimizer="peak", reason="microopt: no answer within 1 s", epoch=1700000000),
        event(1, "refused", slice="1-000001", optimizer="microopt", reason="gnb_cpu 9e9\nis outside"),
        event(2, "leader", pool="core", reason="router-b took over"),
    ):
        await bus.publish(one)


@pytest.fixture
def events(broker):
    """Run `microopt events`."""
    environ = {"NATS_URL": broker.url, "MICROOPT_CONFIG": None, "MICROOPT_NATS_URL": None}

    async def run(*words):
        return await asyncio.to_thread(CliRunner().invoke, main, ["events", *words], env=environ)

    return run


async def test_events_are_printed_aligned_with_the_newest_last(stored, events):
    done = await events()
    assert done.exit_code == 0, done.output
    times = [f"{NOW + timedelta(seconds=n):%Y-%m-%d %H:%M:%S}" for n in (1, 2, 3)]
    assert done.stdout.splitlines() == [
        f"{times[0]}  edge  refused   1-000001  microopt  -           gnb_cpu 9e9\\nis outside",
        f"{times[1]}  core  leader    -         -         -           router-b took over",
        f"{times[2]}  edge  fallback  -         peak      1700000000  microopt: no answer within 1 s",
    ]


async def test_scripts_get_each_event_as_it_was_said(stored, events):
    done = await events("--json", "edge")
    found = [codec.decode(line.encode(), Event, origin="stdout") for line in done.stdout.splitlines()]
    assert [one.kind for one in found] == ["refused", "fallback"]
    assert found[0] == event(
        1, "refused", slice="1-000001", optimizer="microopt", reason="gnb_cpu 9e9\nis outside"
    )


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("edge",), ["refused", "fallback"]),
        (("core",), ["leader"]),
        (("--slice", "1-000001"), ["refused"]),
        (("--kind", "leader", "--kind", "fallback"), ["leader", "fallback"]),
        (("edge", "--kind", "leader"), []),
        (("--since", "2100-01-01"), []),
        (("--since", "30m"), ["refused", "leader", "fallback"]),
        (("--since", (NOW - timedelta(minutes=5)).isoformat()), ["refused", "leader", "fallback"]),
    ],
)
async def test_pool_slice_kind_and_time_choose(stored, events, words, kinds):
    done = await events(*words)
    assert done.exit_code == 0, done.output
    assert [line.split()[3] for line in done.stdout.splitlines()] == kinds
    assert ("no events since" in done.stderr) == (not kinds)


async def test_what_was_stored_before_is_left_out(bus, stored, events):
    await asyncio.sleep(0.05)
    since = datetime.now(UTC)
    await bus.publish(event(5, "held"))
    done = await events("--since", since.isoformat())
    assert [line.split()[3] for line in done.stdout.splitlines()] == ["held"]


async def test_what_cannot_be_is_refused_with_the_remedy(stored, events):
    assert "unknown pool 'edga'; pools: core, edge" in (await events("edga")).output
    assert "--since 'soon': not a time" in (await events("--since", "soon")).output
    assert "'refuse' is not one of 'refused'" in (await events("--kind", "refuse")).output


async def test_what_cannot_be_read_is_counted(bus, stored, events):
    await bus.js.publish("microopt.event.edge", b"junk")
    done = await events()
    assert len(done.stdout.splitlines()) == 3
    assert "! left out, as they cannot be read: 1" in done.stderr


async def test_following_goes_on_with_what_comes_until_ctrl_c(bus, stored, broker, tmp_path):
    out = tmp_path / "out"
    environ = {**os.environ, "NATS_URL": broker.url, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", "from microopt.cli import main; main()", "events", "edge", "--follow"]
    with out.open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(*command, stdout=stdout, env=environ)
    try:
        await eventually(lambda: len(out.read_text().splitlines()) == 2)
        await bus.publish(event(10, "held", reason="an old forecast"))
        await bus.publish(event(11, "leader", pool="core"))
        await eventually(lambda: "an old forecast" in out.read_text())
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
    assert [line.split()[3] for line in out.read_text().splitlines()] == ["refused", "fallback", "held"]
