"""The whole loop on a slice model that promises too much: reality teaches, and the SLA is held again."""

import asyncio
import math
import time
from statistics import fmean

import msgspec
import pytest
import torch
from msgspec.structs import replace

from microopt import codec, desired, streams
from microopt.cancel import cancel
from microopt.messages import Assurance
from microopt.specs import Margin
from microopt_optimizer.slice_model import model_file, model_store
from microopt_optimizer.slice_model.dataset import dataset_from_arrays
from microopt_optimizer.slice_model.training import FAST, train
from microopt_testbed import history
from microopt_testbed.agents import system
from microopt_testbed.demo import scenario
from microopt_testbed.demo.model import peak_allocation
from microopt_testbed.demo.scenario import Scenario
from microopt_testbed.observe import Record
from microopt_testbed.surface import GNB_CPU, TRANSPORT_BANDWIDTH
from microopt_testbed.sweep import sweep

OPTIMISM = 1.25
AT_FIRST, AT_LAST = 4, 12
"""Intervals that are looked at."""
PLAN = Scenario(intervals=28, interval_s=3.0, slots_per_interval=30, qos_margin=0.0, audited=True)
HOUR = 9.0
"""When all are at work, and a model that promises too much misses most."""
HEAD_START_S = 20.0


def too_optimistic():
    """Return a slice model of measurements that said more QoS than there was."""
    torch.set_num_threads(1)
    table = sweep()
    names = (GNB_CPU, TRANSPORT_BANDWIDTH)
    rows = dataset_from_arrays(
        table[:, 0],
        table[:, 1:3],
        OPTIMISM * table[:, 3],
        names=names,
        units=tuple(scenario.UNITS[name] for name in names),
    )
    return train(rows, replace(FAST, epochs=max(1, FAST.epochs // 2)), name=scenario.MODEL)


async def play(one, model, peak):
    """Run all agents on the emulated slices until some intervals have been judged."""
    plan = PLAN.desired(peak)
    await desired.put(one.bus, replace(plan, routes=[replace(plan.routes[0], active="microopt")]))
    await model_store.publish(one.bus, scenario.MODEL, model_file.to_bytes(model))
    await one.agents.start(scenario.tables(PLAN))
    start_s = math.ceil((time.time() + HEAD_START_S) / PLAN.interval_s) * PLAN.interval_s
    outside = replace(PLAN.emulator(start_s, peak), hour=HOUR)
    told = asyncio.Event()
    telling = asyncio.create_task(history.tell(one.bus, outside, PLAN.history_days, told))
    try:
        await one.agents.start({"testbed": msgspec.to_builtins(outside)})
        await history.wait_until_told(told, telling, before_s=start_s)
        await asyncio.sleep(start_s + PLAN.intervals * PLAN.interval_s + 2.0 - time.time())
    finally:
        await cancel([telling])


async def assurances(bus) -> dict[str, list[Assurance]]:
    """Return what was judged of each slice while microopt allocated it, in the order of the intervals."""
    state = (await bus.js.stream_info(streams.ASSURANCES)).state
    found: dict[str, list[Assurance]] = {name: [] for name in scenario.SLAS}
    for number in range(1, state.last_seq + 1):
        message = await bus.js.get_msg(streams.ASSURANCES, number)
        one = codec.decode(message.data, Assurance, origin=message.subject)
        if one.optimizer == "microopt" and one.realised is not None:
            found[one.slice].append(one)
    return {name: sorted(judged, key=lambda one: one.interval.start) for name, judged in found.items()}


async def margin(bus, slice_: str) -> Margin:
    entry = await (await bus.js.key_value(streams.MARGINS)).get(slice_)
    return codec.decode(entry.value, Margin, origin=slice_)


@pytest.mark.timeout(400)
async def test_a_slice_model_that_promises_too_much_is_found_out_and_the_sla_held_again(tmp_path):
    model = await asyncio.to_thread(too_optimistic)
    peak = peak_allocation(model)
    async with system(tmp_path / "store", tmp_path, Record()) as one:
        await play(one, model, peak)
        judged = await assurances(one.bus)
        margins = {name: await margin(one.bus, name) for name in scenario.SLAS}
    for name, sla in scenario.SLAS.items():
        threshold = sla.degradation_threshold
        realised = [interval.realised for interval in judged[name]]
        assert len(realised) >= AT_FIRST + AT_LAST, realised
        assert max(realised[:AT_FIRST]) > 2.0 * threshold, realised
        assert fmean(realised[-AT_LAST:]) <= threshold, realised
        assert margins[name].qos_margin > 0.0
        assert judged[name][-1].asked_threshold < threshold
