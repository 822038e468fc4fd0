"""`microopt collector check`, with real sources."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from microopt import streams
from microopt.settings import NatsSettings
from microopt_collector.check.report import lines
from microopt_collector.check.run import check
from microopt_collector.settings import CollectorSettings

COMMAND = Path(sys.executable).parent / "microopt"


def settings(*sources: dict) -> CollectorSettings:
    return msgspec.convert({"sources": list(sources)}, CollectorSettings)


async def vector(_) -> web.Response:
    sample = {"metric": {"snssai": "2"}, "value": [1.0, "4"]}
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": [sample]}})


def prometheus(port: int) -> dict:
    return {"kind": "prometheus", "url": f"http://127.0.0.1:{port}", "queries": {"users": "u"}, "period_s": 0.2}


async def test_it_shows_what_would_be_published_and_what_would_not(bus, broker, make_slice, http_part):
    for name in ("1-000001", "2"):
        await bus.put_spec(streams.SLICES, name, make_slice(name))
    server = await http_part(vector)

    async def talk() -> None:
        while True:
            for ues, name in ((3, "1-000001"), (-1, "1-000001"), (3, "1-0000ff")):
                found = {"snssai": name, "timestamp": time.time(), "ues": ues, "dl_thpt_per_ue_mbps": 4.5}
                await bus.nc.publish("testbed.measurement.x", json.dumps(found).encode())
            await asyncio.sleep(0.05)

    talking = asyncio.create_task(talk())
    try:
        table = settings({"kind": "testbed"}, prometheus(server.port))
        report = await check(table, NatsSettings(url=broker.url), for_s=30.0)
    finally:
        talking.cancel()
    assert report.ok
    assert report.declared == {"1-000001": "Mbit/s", "2": "Mbit/s"}
    testbed, prom = report.sources
    assert (testbed.slices["1-000001"].users, testbed.slices["1-000001"].qos) == (3.0, 4.5)
    assert set(testbed.rejected) == {"negative", "unknown_slice"}
    assert "known: 1-000001, 2" in testbed.rejected["unknown_slice"].example
    assert prom.slices["2"].users == 4.0
    assert any("slice 2: no source gave its qos" in line for line in lines(report))
    assert (await bus.js.stream_info(streams.TELEMETRY)).state.messages == 0
    assert (await bus.js.stream_info(streams.DEAD)).state.messages == 0


async def test_without_a_bus_the_other_sources_are_looked_at_all_the_same(http_part, unused_port):
    server = await http_part(vector)
    table = settings({"kind": "testbed"}, prometheus(server.port))
    report = await check(table, NatsSettings(url=f"nats://127.0.0.1:{unused_port}"), for_s=30.0)
    testbed, prom = report.sources
    assert "no NATS server answers" in testbed.errors[0]
    assert prom.slices["2"].users == 4.0
    assert report.declared is None
    assert not report.ok


async def test_a_source_that_cannot_connect_is_said_once_and_the_command_fails(unused_port, tmp_path):
    config = tmp_path / "microopt.toml"
    config.write_text(
        f'[nats]\nurl = "nats://127.0.0.1:{unused_port}"\n'
        f'[[collector.sources]]\nkind = "mqtt"\nport = {unused_port}\ntopics = ["a"]\nusers_field = "u"\n'
    )
    environment = {k: v for k, v in os.environ.items() if k != "NATS_URL" and not k.startswith("MICROOPT_")}
    arguments = ("collector", "check", "--config", str(config), "--for", "1")
    process = await asyncio.create_subprocess_exec(
        COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    out, err = await process.communicate()
    assert process.returncode == 1, err
    text = out.decode()
    assert f"mqtt: mqtt 127.0.0.1:{unused_port} a — NOTHING" in text
    assert text.count("Connection refused") == 1
    assert err == b""


@pytest.mark.usefixtures("bus")
async def test_json_holds_the_same(broker):
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("collector", "check", "--for", "0.5", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NATS_URL": broker.url},
    )
    out, _ = await process.communicate()
    assert process.returncode == 1
    found = json.loads(out)
    assert found["report"]["declared"] == {}
    assert [source["name"] for source in found["report"]["sources"]] == ["testbed"]
