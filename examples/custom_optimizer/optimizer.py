"""An optimizer of your own: what the busiest slot of the forecast needs by a rule of thumb, with headroom."""

import asyncio
import json
import os
import signal
from typing import Any

import nats
from nats.aio.msg import Msg

NAME, HEADROOM = "headroom", 1.75


def allocate(asked: dict[str, Any]) -> dict[str, Any]:
    bounds, sla = asked["bounds"], asked["sla"]
    need_mbps = HEADROOM * max(asked["traffic"]["users"]) * sla["qos_threshold"]
    share = need_mbps / bounds["transport_bandwidth"]["ceiling"]  # the other resources are given in proportion
    allocation = {name: min(max(share * b["ceiling"], b["floor"]), b["ceiling"]) for name, b in bounds.items()}
    status = "feasible" if share <= 1.0 else "infeasible"
    reason = f"{need_mbps:g} Mbit/s for the busiest slot"
    return {"slice": asked["slice"], "allocation": allocation, "status": status, "reason": reason}


def solve(problem: dict[str, Any]) -> dict[str, Any]:
    about = {"type": "microopt.solution.v1", "pool": problem["pool"], "interval": problem["interval"]}
    return {**about, "optimizer": NAME, "slices": [allocate(asked) for asked in problem["slices"]]}


async def answer(message: Msg) -> None:
    await message.respond(json.dumps(solve(json.loads(message.data))).encode())


async def serve() -> None:
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await nc.subscribe(f"microopt.optimize.{NAME}", queue=NAME, cb=answer)
    await stop.wait()
    await (nc.drain() if nc.is_connected else nc.close())


def main() -> None:
    asyncio.run(serve())


if __name__ == "__main__":
    main()
