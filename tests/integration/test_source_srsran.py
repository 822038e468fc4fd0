"""The srsRAN source, against fakes of a gNB that speak as its two generations do and no other way."""

import asyncio
import contextlib
import json
import socket

import msgspec
import pytest
from aiohttp import WSMsgType, web

from microopt.broker import free_port
from microopt.errors import TemporaryError
from microopt.testing import eventually
from microopt_collector.sources.srsran import SrsRanSource, SrsRanSourceSettings

UE = {"ue": 0, "pci": 1, "rnti": 17921, "dl_brate": 12e6, "dl_bs": 0}
REPORT = {"timestamp": "2026-02-16T20:24:04.123", "cells": [{"cell_metrics": {"pci": 1}, "ue_list": [UE]}]}


def source(**table) -> SrsRanSource:
    return SrsRanSource(msgspec.convert({"kind": "srsran", "slice": "1-000001"} | table, SrsRanSourceSettings))


class FakeGnb:
    """A gNB from 25.10 on: it reports over the WebSocket only after it was asked to, and refuses all else."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []

    async def __call__(self, request: web.BaseRequest) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            assert message.type == WSMsgType.TEXT
            if json.loads(message.data) != {"cmd": "metrics_subscribe"}:
                await ws.send_json({"error": "Unknown command", "cmd": "?"})
                continue
            await ws.send_json({"cmd": "metrics_subscribe", "timestamp": "2026-02-16T20:24:04.123"})
            self.sockets.append(ws)
        return ws


async def test_the_websocket_is_asked_and_gives_measurements(http_part, measuring):
    gnb = FakeGnb()
    server = await http_part(gnb)
    async with measuring(source(transport="websocket", url=f"ws://127.0.0.1:{server.port}")) as heard:
        [ws] = await eventually(lambda: gnb.sockets)
        await ws.send_json({"timestamp": "x", "app_resource_usage": {"cpu_usage_percent": 1.0}})
        await ws.send_str("{")
        await ws.send_json({"error": "no metrics", "cmd": "metrics_subscribe"})
        await ws.send_json(REPORT)
        await eventually(lambda: heard.measurements)
        assert heard.states == [True]
        await ws.close()
    assert [(m.slice, m.users, m.qos, m.source) for m in heard.measurements] == [("1-000001", 1.0, 12.0, "srsran")]
    assert [reason for reason, _ in heard.rejected] == ["not_json", "refused"]


async def test_a_gnb_that_goes_away_ends_the_source(http_part, recorder):
    gnb = FakeGnb()
    server = await http_part(gnb)
    found = source(transport="websocket", url=f"ws://127.0.0.1:{server.port}")
    listening = asyncio.create_task(found.run(recorder))
    [ws] = await eventually(lambda: gnb.sockets)
    await ws.close()
    with pytest.raises(TemporaryError, match=f"gNB at ws://127.0.0.1:{server.port}: closed"):
        await asyncio.wait_for(listening, 20)


async def test_a_report_without_end_is_refused_and_ends_the_connection(http_part, recorder):
    gnb = FakeGnb()
    server = await http_part(gnb)
    found = source(transport="websocket", url=f"ws://127.0.0.1:{server.port}")
    listening = asyncio.create_task(found.run(recorder))
    [ws] = await eventually(lambda: gnb.sockets)
    with contextlib.suppress(ConnectionError):  # it is cut off on the way
        await ws.send_bytes(bytes(9_000_000))
    with pytest.raises(TemporaryError, match="closed with code 1009"):
        await asyncio.wait_for(listening, 20)
    assert recorder.measurements == []


async def test_no_gnb_is_said(recorder, unused_port):
    with pytest.raises(TemporaryError, match=f"gNB at ws://127.0.0.1:{unused_port}: Connection refused"):
        await source(transport="websocket", url=f"ws://127.0.0.1:{unused_port}").run(recorder)


async def test_datagrams_of_an_older_gnb_give_measurements(measuring):
    port = free_port()
    old = {"timestamp": 1.7e9, "cell_metrics": {}, "ue_list": [{"ue_container": UE}]}
    async with measuring(source(transport="udp", port=port)) as heard:
        await eventually(lambda: heard.states)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gnb:
            for data in (b"\xff", json.dumps(old).encode()):
                gnb.sendto(data, ("127.0.0.1", port))
        await eventually(lambda: heard.measurements)
    assert [(m.slice, m.users, m.qos) for m in heard.measurements] == [("1-000001", 1.0, 12.0)]
    assert [reason for reason, _ in heard.rejected] == ["not_json"]


async def test_a_port_that_is_taken_is_said(recorder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(TemporaryError, match=f"udp 127.0.0.1:{port}: .*in use"):
            await source(transport="udp", port=port).run(recorder)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"slice": None}, "give slice or slice_of_pci"),
        ({"slice_of_pci": {"1": "2"}}, "give slice or slice_of_pci"),
        ({"slice": None, "slice_of_pci": {"1": "x"}}, "not an S-NSSAI"),
        ({"slice": None, "slice_of_pci": {"1": "2", "2": "2"}, "transport": "udp"}, "cannot be summed"),
        ({"url": "http://127.0.0.1"}, "url"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(table, text):
    with pytest.raises(msgspec.ValidationError, match=text):
        source(**({"transport": "websocket"} | table))
