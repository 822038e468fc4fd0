"""Queues of an Open vSwitch, and what TCP gets through them."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actuate.place import Bare, Place, no_bare
from actuate.switch import ADDRESS, Switch, received_mbps, running_switch, transfer
from actuate.system import system
from actuate.traffic import FRAME_PER_PAYLOAD

VALUES_MBPS = (20.0, 30.0)
RATES_MBPS = (20.0, 5.0, 40.0, 10.0, 30.0)
"""The paper's bandwidths lie between 5 and 40 Mbit/s."""
WITHIN_S = 10.0
"""How long after the order the rate is looked at."""
SETTLED_S = 2.0
"""From when on; what was in flight before has arrived by then."""


@contextmanager
def ovs_place(slice_: str) -> Iterator[Place]:
    """Make a port named as the slice, with queues for the driver and for the bare call."""
    with running_switch() as switch:
        switch.add_port(slice_, ADDRESS)
        switch.add_queues(slice_, 1, 2)
        with _Bare(switch.socket) as bare:
            yield switch_place(switch, 1, VALUES_MBPS, bare)


async def rate_error(slice_: str, quick: bool) -> dict[str, Any]:
    """Return how far what TCP gets is from the rate asked, at most, and each of the rates.

    One connection sends all the time, while allocations change the rate of the port's default queue. Of each, the
    payload counts that is received from 2 to 10 s after the allocation was published, plus its headers.
    """
    rates = RATES_MBPS[:2] if quick else RATES_MBPS
    with running_switch() as switch:
        receiver, sender = switch.add_port(slice_, ADDRESS), switch.add_port("sender", "192.0.2.2")
        switch.add_queues(slice_, 0)
        record = switch.socket.with_name("received")
        place = switch_place(switch, 0, (min(rates), max(rates)), no_bare)
        times: list[float] = []
        async with system(place) as one:
            await one.put_slices([slice_])
            await one.start_actuator()
            with transfer(sender, receiver, record):
                for epoch, rate in enumerate(rates, start=1):
                    times.append(time.monotonic())
                    await one.allocate(slice_, epoch, rate)
                    await one.reported(slice_, epoch, "verified")
                    await asyncio.sleep(times[-1] + WITHIN_S - time.monotonic())
        got = [FRAME_PER_PAYLOAD * received_mbps(record, at + SETTLED_S, at + WITHIN_S) for at in times]
    errors = [abs(one / asked - 1.0) for one, asked in zip(got, rates, strict=True)]
    return {"ovs_rate_error": max(errors), "ovs_rates_mbps": dict(zip(map(str, rates), got, strict=True))}


def switch_place(switch: Switch, queue: int, values: tuple[float, float], bare: Bare) -> Place:
    """Return the queue of ports that are named as the slices."""
    settings = {"remote": f"unix:{switch.socket}"}
    return Place("ovs", f"{{slice}}/{queue}", "Mbit/s", values, bare, settings)


class _Bare:
    """The switch's part alone: a transaction on a socket, and the notice that ovs-vswitchd has taken it over."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._decoder = json.JSONDecoder()
        self._text = ""
        found = self._ask("transact", {"op": "select", "table": "Queue", "where": TAGGED, "columns": ["_uuid"]})
        self._queue = ["_uuid", "==", found[0]["rows"][0]["_uuid"]]
        self._ask("monitor", None, {"Open_vSwitch": {"columns": ["cur_cfg"]}})

    def __enter__(self) -> "_Bare":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def __call__(self, value: float) -> None:
        bits = str(round(value * 1e6))
        rates = ["map", [["max-rate", bits], ["min-rate", bits]]]
        self._send(
            "transact", {"op": "update", "table": "Queue", "where": [self._queue], "row": {CONFIG: rates}}, *UP
        )
        wanted, current = None, -1
        while wanted is None or current < wanted:
            message = self._next()
            if message.get("method") == "update":
                for row in message["params"][1]["Open_vSwitch"].values():
                    current = max(current, row["new"]["cur_cfg"])
            else:
                wanted = message["result"][2]["rows"][0]["next_cfg"]

    def _ask(self, method: str, *params: Any) -> Any:
        self._send(method, *params)
        return self._next()["result"]

    def _send(self, method: str, *params: Any) -> None:
        self._socket.sendall(json.dumps({"id": 1, "method": method, "params": ["Open_vSwitch", *params]}).encode())

    def _next(self) -> Any:
        while True:
            try:
                message, end = self._decoder.raw_decode(self._text)
            except json.JSONDecodeError:
                self._text += self._socket.recv(65536).decode()
            else:
                self._text = self._text[end:]
                return message


CONFIG = "other_config"
TAGGED = [["external_ids", "includes", ["map", [["bench", "2"]]]]]
UP = (
    {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]},
    {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]},
)
