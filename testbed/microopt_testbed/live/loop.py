"""Closing the loop on live slices: the agents between what UEs and cgroups say and what OVSDB and cgroups hold."""

import asyncio
import math
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from microopt import desired, streams
from microopt.bus import Bus
from microopt.cancel import cancel
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.model_file import TrainedModel
from microopt_testbed import history
from microopt_testbed.agents import system
from microopt_testbed.emulator_agent import EmulatorSettings, traffic
from microopt_testbed.live.knobs import opened_for
from microopt_testbed.live.lab import Lab, LabSettings, running
from microopt_testbed.live.loop_plan import MEASUREMENT, MODEL, SLICES, LoopPlan, tables
from microopt_testbed.observe import Record
from microopt_testbed.static_plan import static_plan

HEAD_START_S: Final = 24.0
"""Until the first slot: the forecaster reads the past."""
EARLY_S: Final = 0.2
"""Before a slot, so that its UEs are told in time."""
_LOOK_EVERY_S: Final = 0.5
LATE_SLOTS: Final = 4.0
"""The collector publishes a slot after it has ended."""

Follow = Callable[[float], None]


class Said(Struct, frozen=True):
    """What this outside world says of one slot of a slice."""

    snssai: str
    timestamp: float
    ues: int
    dl_thpt_per_ue_mbps: float | None
    transport_mbps: float | None


@dataclass
class LoopRun:
    """A loop that was closed: when it began, what was planned statically, and all that was said."""

    plan: LoopPlan
    start_s: float
    peak: dict[str, float]
    peak_lacks: str = ""
    """Why what is planned statically is not enough, if it is not."""
    record: Record = field(default_factory=Record)


async def close_loop(
    settings: LabSettings, plan: LoopPlan, model: TrainedModel, logs: Path, follow: Follow
) -> LoopRun:
    """Run everything for all phases of `plan`, and return what came of it.

    Args:
        settings: the testbed.
        plan: what is played.
        model: the slice model.
        logs: a folder for the agents' logs.
        follow: is told the share that has been played, now and then.

    Raises:
        ConfigError: the testbed or an agent cannot run, or this machine is too slow.
    """
    pool, first = plan.pool(), plan.spec(SLICES[0], plan.slas[0], {})
    peak, lacking = static_plan(first, pool, model, plan.scale.peak)
    run = LoopRun(plan, math.nan, peak, lacking)
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(running(settings))
        await _set_all(lab, peak)
        store = stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=logs))
        one = await stack.enter_async_context(system(Path(store), logs, run.record))
        await desired.put(one.bus, plan.desired(peak))
        await model_store.publish(one.bus, MODEL, model_file.to_bytes(model))
        await one.agents.start(tables(lab))
        run.start_s = math.ceil((time.time() + HEAD_START_S) / plan.interval_s) * plan.interval_s
        outside = plan.traffic(run.start_s)
        await stack.enter_async_context(_played(lab, one.bus, outside))
        told = asyncio.Event()
        telling = asyncio.create_task(history.tell(one.bus, outside, plan.history_days, told), name="history")
        stack.push_async_callback(cancel, [telling])
        await history.wait_until_told(told, telling, before_s=run.start_s)
        await _play(one.bus, run, follow)
    return run


async def _set_all(lab: Lab, values: dict[str, float]) -> None:
    async with opened_for(lab) as knobs:
        for name in lab.settings.slices:
            await knobs.set(name, values)


async def _play(bus: Bus, run: LoopRun, follow: Follow) -> None:
    """Give the slices their SLAs, phase by phase, each in time for its first decision."""
    plan, waiting = run.plan, list(enumerate(run.plan.phases))
    end_s = run.start_s + len(plan.phases) * plan.phase_s + LATE_SLOTS * plan.slot_s
    while (now_s := time.time()) < end_s:
        if waiting and now_s >= run.start_s + waiting[0][0] * plan.phase_s - plan.interval_s / 2:
            for name, sla in waiting.pop(0)[1].items():
                await bus.put_spec(streams.SLICES, name, plan.spec(name, sla, run.peak))
        follow(max(0.0, 1.0 - (end_s - now_s) / (end_s - run.start_s)))
        await asyncio.sleep(min(_LOOK_EVERY_S, end_s - now_s))


@asynccontextmanager
async def _played(lab: Lab, bus: Bus, outside: EmulatorSettings) -> AsyncIterator[None]:
    """Let UEs come and go, and say what they get, until the end; a testbed that ends is an error at once."""
    owner = asyncio.current_task()
    tasks = [
        asyncio.create_task(_speak(lab, bus, outside.start or 0.0), name="speak"),
        asyncio.create_task(_drive(lab, outside), name="drive"),
    ]
    failed: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and owner is not None:
            failed.append(error)
            owner.cancel()

    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if failed:
            raise failed[0] from None
        raise
    finally:
        for task in tasks:
            task.remove_done_callback(ended)
        await cancel(tasks)


async def _speak(lab: Lab, bus: Bus, start_s: float) -> None:
    """Say each slot from `start_s` on; of those before it the past is told."""
    async for one in lab.measurements():
        if one.begin_s >= start_s:
            middle_s = one.begin_s + lab.settings.slot_s / 2
            said = Said(one.slice, middle_s, one.users, one.qos_mbps, one.transport_mbps)
            await bus.nc.publish(f"{MEASUREMENT}.{one.slice}", msgspec.json.encode(said))


async def _drive(lab: Lab, outside: EmulatorSettings) -> None:
    """Tell each slice, slot by slot, how many UEs it has."""
    first = outside.history_days * outside.slots_per_day
    users = {one.slice: traffic(outside, one).users[first:] for one in outside.slices}
    start_s = outside.start or math.nan
    slot = 0
    while True:
        await _sleep_until(start_s + slot * outside.slot_s - EARLY_S)
        for name, series in users.items():
            await lab.set_users(name, int(series[slot % series.size]))
        slot += 1


async def _sleep_until(unix_s: float) -> None:
    await asyncio.sleep(max(0.0, unix_s - time.time()))
